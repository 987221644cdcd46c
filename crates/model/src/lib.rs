//! The ground floor: the words of Pileus, its state machines, and the door to the engine.
//!
//! Everything above speaks in these types. Nothing here does I/O, knows HTTP, or needs an async
//! runtime: a future is only ever named (`BoxFuture`), never run.

mod clock;
mod cloud;
mod cloud_health;
mod command;
mod engine;
mod event;
mod explain;
mod insight;
mod job;
mod key;
mod lane;
mod output;
mod proxy;
pub mod reason;
mod token;
mod view;
mod vm;

use std::{future::Future, pin::Pin, sync::Arc};

pub use clock::{Clock, ManualClock, Monotonic, Time};
pub use cloud::{Cloud, CloudSpec, ImageRecord, Origin, Size};
pub use cloud_health::{CloudHealth, FAILED_STARTS_MAX, FAILED_VMS_MAX};
pub use command::{Actor, Command, JobSpec, OPERATOR, Refusal};
pub use engine::{Backup, Beat, Engine, Idle, Receipt};
pub use event::{Event, History, Kind, Owner};
pub use explain::{Bounded, CloudTest, Explanation, FailedBoot, QueueOf, QueuePlace, Share};
pub use imbl::{OrdMap, OrdSet};
pub use insight::{Holding, Shares, Stray, TypeShare};
pub use job::{BlockedCloud, BootFailure, BootFault, Exit, Job, JobDefaults, JobState, RunTimes};
pub use key::{KEY_KEPT_S, KeptAnswer, RequestKey, UsedKey};
pub use lane::{JobIndex, JobPlace, LaneKey};
pub use output::{Gap, JobStream, Output, OutputPart, OutputRange, StreamOutput};
pub use proxy::{Proxies, Proxy, ProxyUse};
pub use token::Token;
pub use view::{View, Waiting};
pub use vm::{Override, Vm, VmState};

/// A name that is shared rather than copied: of a cloud, a VM, a job, a user.
pub type Name = Arc<str>;

/// A future behind one allocation.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
