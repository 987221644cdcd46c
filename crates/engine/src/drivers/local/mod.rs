//! `local`: a VM is a supervised worker process on this host. The embedded default; Linux alone.
//!
//! ```text
//! Local ── Fleet ── supervisors ── workers, one per VM, each with a folder and, under root, a user
//!   └──── Channel ── Session per call ◄── loopback TCP, proved by HMAC ──► worker ── its job
//! ```
//!
//! Workers outlive the server, however it ended: the next one finds their folders, writes its new
//! address there, and they call again. What a VM should run is read from the view alone, so that
//! neither side needs to remember what was said.
//!
//! **What it protects.** Under root every VM has a user of its own: it reads neither another VM's
//! files nor the server's. Without root all VMs are this server's user. A supervisor, a control group
//! where there is one, and a scan end all processes of a VM; memory is bounded for the VM by the
//! group, else for each process (decisions 0023 and 0024). The network is the host's.
//!
//! A service manager must end the server alone, not its whole group (systemd: `KillMode=process`).

mod cgroup;
mod channel;
mod cpus;
mod fleet;
mod folder;
mod greetings;
pub mod job_exec;
mod kernel;
mod process;
mod room;
mod session;
mod settings;
mod silence;
pub mod tcp_owner;
mod users;
pub mod vm_processes;
pub mod vm_users;
mod wire;
pub mod worker;

#[cfg(test)]
pub(crate) use self::silence::Silence;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use pileus_model::{BoxFuture, Clock, Name, OutputPart, OutputRange, Vm};
use tracing::{info, warn};

use self::{
    channel::Channel,
    fleet::{Fleet, blocking, failed},
    folder::StateFolder,
    users::Users,
};
pub use self::{
    kernel::Kernel,
    settings::{Isolation, LocalSettings},
};
use super::{Driver, DriverError, Seen};
use crate::desk::Desk;

/// Where the driver lives.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The state folder. Under root it and the folders above it should let others pass (`x`); where
    /// they do not, jobs live in `/var/tmp/pileus-…`.
    pub state_dir: PathBuf,
    /// A program that calls [`worker::main`] when it is run as `<program> worker <folder>`, and
    /// [`job_exec::main`] when it is run as `<program> job-exec -- <words>`.
    pub worker_exe: PathBuf,
    /// Most that is kept of each of a job's two streams, in bytes; half of it is the head, half the tail. At most
    /// 4 MiB count.
    pub output_max: usize,
    /// Longest silence of a worker before its VM is lost.
    pub worker_timeout: Duration,
    /// Bounds of jobs.
    pub confinement: Confinement,
}

/// Bounds of jobs.
#[derive(Debug, Clone, Default)]
pub struct Confinement {
    /// `[local]` of the settings.
    pub settings: LocalSettings,
    /// Paths that no job may read, beside the state folder.
    pub hidden: Vec<PathBuf>,
    /// Features of the kernel that are used.
    pub kernel: Kernel,
    /// TCP ports of the service that do not authenticate their callers. Jobs of VMs without a user of their own do
    /// not reach them, where the kernel can deny it.
    pub closed_ports: Vec<u16>,
}

impl Confinement {
    /// Protections of the service against its jobs, in force or not.
    pub fn protections(&self) -> Vec<Protection> {
        let users = Users::available().is_some();
        let landlock = self.kernel.landlock;
        // Name, how root has it, the version of Landlock that has it otherwise, and what is missing without both.
        let table = [
            (
                "files",
                "a user of its own for each VM",
                1,
                "jobs read the files of the service: start it as root, or on Linux 5.13 or later with Landlock",
            ),
            (
                "ports without authentication",
                "owner of the caller's socket",
                4,
                "jobs reach ports that ask for no token: start as root, or on Linux 6.7 or later with Landlock",
            ),
            (
                "signals",
                "a user of its own for each VM",
                6,
                "jobs signal the service and its workers: start as root, or on Linux 6.12 or later with Landlock",
            ),
        ];
        let found = table.into_iter().map(|(name, by_root, needed, lack)| {
            let by_landlock = (landlock >= needed).then(|| format!("Landlock {landlock}"));
            let how = match (users, by_landlock) {
                (true, Some(landlock)) if name != "ports without authentication" => {
                    Ok(format!("{by_root}, {landlock}"))
                }
                (true, _) => Ok(by_root.to_owned()),
                (false, Some(landlock)) => Ok(landlock),
                (false, None) => Err(lack),
            };
            Protection { name, how }
        });
        found.collect()
    }

    /// Protections that this host lacks, each with its remedy.
    pub fn missing(&self) -> Vec<&'static str> {
        self.protections().into_iter().filter_map(|it| it.how.err()).collect()
    }
}

/// Protection of the service against its jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// Thing that is protected.
    pub name: &'static str,
    /// Mechanism that is in force; `Err`: what jobs can do without it, and the remedy.
    pub how: Result<String, &'static str>,
}

/// The driver.
pub struct Local {
    fleet: Arc<Fleet>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("channel", &self.fleet.channel).finish_non_exhaustive()
    }
}

impl Local {
    /// Opens the channel, and finds the workers that are there. `desk` must show all VMs already: a
    /// worker that it does not know is told to stop.
    pub async fn start(
        config: LocalConfig,
        desk: Arc<dyn Desk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, DriverError> {
        let output_max = config.output_max.min(wire::OUTPUT_MAX);
        let worker_timeout = config.worker_timeout;
        let opened = blocking(move || {
            let users = Users::available();
            let state = StateFolder::open(&config.state_dir, users.is_some())?;
            let mut confinement = config.confinement;
            confinement.hidden.push(config.state_dir);
            // Those that are not there hide nothing.
            confinement.hidden.retain_mut(|path| path.canonicalize().map(|real| *path = real).is_ok());
            Ok((users, Arc::new(state), std::path::absolute(config.worker_exe)?, confinement))
        });
        let (users, state, worker_exe, confinement) =
            opened.await?.map_err(|error| failed("state folder was not opened", &error))?;
        if users.is_none() && nix::unistd::geteuid().is_root() {
            warn!("this root has no other users to give: all VMs run as it");
        }
        if users.is_some() && !state.open {
            info!("VMs may not pass through to the state folder: their jobs live in /var/tmp");
        }
        let channel = Channel::open(state.clone(), desk, clock).await;
        let channel = channel.map_err(|error| failed("channel was not opened", &error))?;
        let fleet = Fleet::new(state, channel, worker_exe, users, output_max, worker_timeout, confinement);
        let fleet = Arc::new(fleet);
        let adopting = fleet.clone();
        let adopted = blocking(move || adopting.adopt()).await?;
        if let Err(error) = adopted {
            fleet.channel.close().await;
            return Err(failed("former VMs were not found", &error));
        }
        info!(address = %fleet.channel.address(), "workers may call home");
        Ok(Arc::new(Self { fleet }))
    }

    /// Hangs up on all workers. They go on, and call the next server of this state folder.
    pub async fn stop(&self) {
        self.fleet.channel.close().await;
    }
}

impl Driver for Local {
    fn create(&self, vm: Arc<Vm>) -> BoxFuture<Result<String, DriverError>> {
        Box::pin(self.fleet.clone().create(vm))
    }

    fn poll(&self, vms: Vec<Arc<Vm>>) -> BoxFuture<Result<Vec<Seen>, DriverError>> {
        Box::pin(self.fleet.clone().poll(vms))
    }

    fn destroy(&self, vm: Arc<Vm>) -> BoxFuture<Result<(), DriverError>> {
        Box::pin(self.fleet.clone().destroy(vm.id.clone()))
    }

    /// Nothing of this host runs without an owner: the same as destroying it.
    fn forget(&self, vm: Arc<Vm>) -> BoxFuture<Result<(), DriverError>> {
        self.destroy(vm)
    }

    fn output_part(
        &self,
        vm: &str,
        job: &str,
        range: OutputRange,
        wait: Duration,
    ) -> BoxFuture<Option<OutputPart>> {
        let (fleet, vm, job) = (self.fleet.clone(), Name::from(vm), Name::from(job));
        Box::pin(async move { fleet.channel.read(&vm, job, range, wait).await })
    }

    fn sweep(&self, known: Vec<Name>) -> BoxFuture<Result<Vec<Name>, DriverError>> {
        Box::pin(self.fleet.clone().sweep(known))
    }
}
