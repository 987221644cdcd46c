//! Reasons of jobs that wait.
//!
//! The scheduler writes the reason of the first job that it finds no VM for in each queue. Those of the other
//! jobs follow from it when they are read: an event for each of many thousand jobs would be written and undone in
//! every cycle.

use std::cmp::Reverse;

use crate::{Job, JobState, LaneKey, Name, View};

/// Start of the reason of a job whose user has as many VMs as an administrator allows.
pub const USER_LIMIT: &str = "its user has reached the limit of ";

/// Start of the reason of a job whose user and type have as many VMs as the user's own jobs allow.
pub const TYPE_LIMIT: &str = "its user's own limit for its type of VM is reached: ";

/// Reason of a job while as many VMs boot as may boot at a time.
pub const BOOTING: &str = "as many VMs as allowed are booting";

/// Start of the reason of the one job that room is held for; the cloud's name follows. It is an event: the job that
/// was first once stays so until its VM boots, though shares change while others give up their VMs.
pub const HOLDS: &str = "it goes next, room is held for it as it frees on cloud ";

/// Start of the reason of a job that lost its VM.
pub const VM_LOST: &str = "its VM was lost: ";

/// Start of the reason of a job that a VM could not start.
pub const VM_FAILED: &str = "VM ";

/// Reason of a job that is not the first of its user and type.
pub const BEHIND: &str = "earlier jobs of its user and type go before it";

/// Reason of the first job of its user and type while nothing keeps it from a VM.
pub const NEXT: &str = "it is the next of its user and type to get a VM";

/// Most lanes of one user and type that are read for a reason.
const LANES: usize = 64;

impl View {
    /// Reason of a job; `None`: it neither waits, is held nor failed.
    pub fn reason_of<'a>(&'a self, job: &'a Job) -> Option<&'a str> {
        if job.state != JobState::New || job.reason.is_some() {
            return job.reason.as_deref();
        }
        let written = |id: &Name| self.jobs.get(id).and_then(|job| job.reason.as_deref());
        let alike = self.index.waiting.get(&LaneKey::of(job))?;
        let of_all = |reason: &&str| ![HOLDS, VM_LOST, VM_FAILED].iter().any(|own| reason.starts_with(own));
        if let Some(reason) = alike.get_min().and_then(written).filter(of_all) {
            return Some(reason);
        }
        let lanes = self.index.lanes_of(&job.project, &job.user, &job.vm_type).take(LANES);
        let first = lanes
            .filter_map(|(lane, ids)| Some((Reverse((lane.high_priority, lane.priority)), ids.get_min()?)));
        let (_, first) = first.min()?;
        let limits = |reason: &&str| {
            *reason == BOOTING || reason.starts_with(USER_LIMIT) || reason.starts_with(TYPE_LIMIT)
        };
        match written(first).filter(limits) {
            Some(reason) => Some(reason),
            None if *first == job.id => Some(NEXT),
            None => Some(BEHIND),
        }
    }
}
