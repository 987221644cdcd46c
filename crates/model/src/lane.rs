//! Index of jobs by what the scheduler does with them.
//!
//! Jobs that wait and differ in nothing but their age share a [`LaneKey`]: the first of a lane stands for
//! all of it. A cycle then costs by lanes, and jobs that have ended cost nothing.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::{Job, JobState, Name, Time};

/// Everything that the scheduler compares of a waiting job, except its id.
///
/// The order starts with project, user and type: the lanes of one user and type are one range.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey {
    /// Project of the job.
    pub project: Name,
    /// User of the job.
    pub user: Name,
    /// Type of VM.
    pub vm_type: Name,
    /// High priority.
    pub high_priority: bool,
    /// Priority; the greater goes first.
    pub priority: i64,
    /// Cores.
    pub cpu_cores: u32,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Storage, in GiB.
    pub storage_gib: u64,
    /// Target clouds as the job names them; empty: any.
    pub target_clouds: Vec<String>,
    /// Image; `None`: the cloud's own.
    pub image: Option<Name>,
    /// Limit of VMs of its user and type that the job names; `None`: no limit.
    pub user_type_limit: Option<u32>,
    /// Id of a job that clouds are blocked for, that is banned, or that was returned: it has a lane of its own.
    pub own: Option<Name>,
}

impl LaneKey {
    /// Lane of a job, if it waits.
    pub fn of(job: &Job) -> Self {
        let own = !job.blocked_clouds.is_empty() || job.banned_until.is_some() || job.returns > 0;
        Self {
            project: job.project.clone(),
            user: job.user.clone(),
            vm_type: job.vm_type.clone(),
            high_priority: job.high_priority,
            priority: job.priority,
            cpu_cores: job.cpu_cores,
            memory_mib: job.memory_mib,
            storage_gib: job.storage_gib,
            target_clouds: job.target_clouds.clone(),
            image: job.image.clone(),
            user_type_limit: job.user_type_limit,
            own: own.then(|| job.id.clone()),
        }
    }

    /// Key below all lanes of a user and type.
    fn least(project: &Name, user: &Name, vm_type: &Name) -> Self {
        Self {
            project: project.clone(),
            user: user.clone(),
            vm_type: vm_type.clone(),
            high_priority: false,
            priority: i64::MIN,
            cpu_cores: 0,
            memory_mib: 0,
            storage_gib: 0,
            target_clouds: Vec::new(),
            image: None,
            user_type_limit: None,
            own: None,
        }
    }
}

/// Place of a job in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPlace(Place);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// `told`: it has a reason.
    Waiting {
        lane: LaneKey,
        told: bool,
    },
    Scheduled,
    /// It runs, and names a limit for its user and type.
    Limiting,
    Ended(Time),
    /// No cycle looks at it.
    Nowhere,
}

impl JobPlace {
    /// Place of a job as it is now.
    pub fn of(job: &Job) -> Self {
        Self(match (job.state, job.finished) {
            (JobState::New, _) => Place::Waiting { lane: LaneKey::of(job), told: job.reason.is_some() },
            (JobState::Scheduled, _) => Place::Scheduled,
            (JobState::Running, _) if job.user_type_limit.is_some() => Place::Limiting,
            (state, Some(at)) if state.is_final() => Place::Ended(at),
            _ => Place::Nowhere,
        })
    }
}

/// The index. The engine's fold keeps it; a copy costs a few reference counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobIndex {
    /// Ids of new jobs by lane; no lane is empty.
    pub waiting: OrdMap<Arc<LaneKey>, OrdSet<Name>>,
    /// New jobs that have a reason.
    pub told: OrdSet<Name>,
    /// Jobs for which a VM was booted.
    pub scheduled: OrdSet<Name>,
    /// Running jobs that name a limit for their user and type.
    pub limiting: OrdSet<Name>,
    /// Jobs that have ended, the first to end first.
    pub ended: OrdSet<(Time, Name)>,
}

impl JobIndex {
    /// Index of these jobs.
    pub fn of<'a>(jobs: impl IntoIterator<Item = &'a Arc<Job>>) -> Self {
        let mut index = Self::default();
        jobs.into_iter().for_each(|job| index.add(&job.id, JobPlace::of(job)));
        index
    }

    /// Adds a job at its place.
    pub fn add(&mut self, id: &Name, JobPlace(place): JobPlace) {
        match place {
            Place::Waiting { lane, told } => {
                match self.waiting.get_mut(&lane) {
                    Some(ids) => drop(ids.insert(id.clone())),
                    None => drop(self.waiting.insert(Arc::new(lane), OrdSet::unit(id.clone()))),
                }
                if told {
                    self.told.insert(id.clone());
                }
            }
            Place::Scheduled => drop(self.scheduled.insert(id.clone())),
            Place::Limiting => drop(self.limiting.insert(id.clone())),
            Place::Ended(at) => drop(self.ended.insert((at, id.clone()))),
            Place::Nowhere => (),
        }
    }

    /// Removes a job from its place.
    pub fn remove(&mut self, id: &Name, JobPlace(place): &JobPlace) {
        match place {
            Place::Waiting { lane, told } => {
                if let Some(ids) = self.waiting.get_mut(lane) {
                    ids.remove(id);
                    if ids.is_empty() {
                        self.waiting.remove(lane);
                    }
                }
                if *told {
                    self.told.remove(id);
                }
            }
            Place::Scheduled => drop(self.scheduled.remove(id)),
            Place::Limiting => drop(self.limiting.remove(id)),
            Place::Ended(at) => drop(self.ended.remove(&(*at, id.clone()))),
            Place::Nowhere => (),
        }
    }

    /// Moves a job whose place may have changed.
    pub fn shift(&mut self, id: &Name, before: &JobPlace, after: JobPlace) {
        match (&before.0, &after.0) {
            (one, two) if one == two => (),
            (Place::Waiting { lane, .. }, Place::Waiting { lane: same, told }) if lane == same => {
                let _old = if *told { self.told.insert(id.clone()) } else { self.told.remove(id) };
            }
            _ => {
                self.remove(id, before);
                self.add(id, after);
            }
        }
    }

    /// Lanes of one user and type, in the order of their keys.
    pub fn lanes_of<'a>(
        &'a self,
        project: &'a Name,
        user: &'a Name,
        vm_type: &'a Name,
    ) -> impl Iterator<Item = (&'a Arc<LaneKey>, &'a OrdSet<Name>)> + 'a {
        let of = move |lane: &LaneKey| {
            (&*lane.project, &*lane.user, &*lane.vm_type) == (&**project, &**user, &**vm_type)
        };
        self.waiting.range(LaneKey::least(project, user, vm_type)..).take_while(move |(lane, _)| of(lane))
    }
}
