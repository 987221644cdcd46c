//! The controller of `/v2/{project_id}/service`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pileus_sdk::{
    Call, Deps, Fault, Reply, StatusCode,
    host::LogLevel,
    json,
    model::{Actor, Command, Job, JobState, Receipt, Refusal, View},
};

use crate::body::{
    CloudShown, Failures, JobFailure, OptionShown, QuickShutdown, Reconciler, SetLogLevel, SharesShown, Shown,
};

pub struct Service {
    pub deps: Deps,
}

impl Service {
    /// `{"service": {…}}`.
    pub async fn show(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        self.shown()
    }

    /// `{"clouds": [{"name", "options": [{"name", "value"}]}]}`. 409: the file is broken, and where.
    pub async fn config(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let clouds = self.deps.host.clouds_on_disk().await.map_err(Fault::Conflict)?;
        let shown = clouds.into_iter().map(|cloud| CloudShown {
            name: cloud.name,
            options: cloud.options.into_iter().map(|(name, value)| OptionShown { name, value }).collect(),
        });
        Reply::member(StatusCode::OK, "clouds", &shown.collect::<Vec<_>>())
    }

    /// `{"shares": {"diff", "current", "desired"}}`.
    pub async fn shares(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        Reply::member(StatusCode::OK, "shares", &SharesShown::new(&self.deps.engine.shares()))
    }

    /// `{"failures": {"jobs": […], "vm_types": […]}}`.
    pub async fn failures(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let view = self.deps.engine.view();
        let jobs = job_failures(&view).map(|(job, reasons)| JobFailure {
            id: &job.id,
            project_id: &job.project,
            user: &job.user,
            state: job.state.as_str(),
            reasons,
        });
        let vm_types = self.deps.engine.failed_boots().into_iter().map(Into::into).collect();
        Reply::member(StatusCode::OK, "failures", &Failures { jobs: jobs.collect(), vm_types })
    }

    /// `{"strays": [{"machine", "driver"}]}`. Their drivers ended them.
    pub async fn strays(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let strays = self.deps.engine.strays().into_iter();
        let shown = strays.map(|stray| json!({ "machine": &*stray.machine, "driver": stray.driver }));
        Reply::member(StatusCode::OK, "strays", &shown.collect::<Vec<_>>())
    }

    /// `{"reconfig": null}`: 200 with the names of the clouds. 409: the file is broken, and where;
    /// nothing was changed.
    pub async fn reconfig(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        call.nothing("reconfig")?;
        let receipt = reconfigure(&self.deps, call.actor()).await?;
        let clouds = receipt.view.clouds_in_order();
        let names = |retired: bool| {
            let of = clouds.iter().filter(|cloud| cloud.retired == retired);
            of.map(|cloud| cloud.name.to_string()).collect::<Vec<_>>()
        };
        Reply::ok(&json!({ "reconfig": { "clouds": names(false), "retired": names(true) } }))
    }

    /// `{"quick_shutdown": {"enabled": true}}`, or `null` to turn it over: 200 with the service.
    pub async fn quick_shutdown(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let asked: Option<QuickShutdown> = call.json("quick_shutdown")?;
        self.deps.host.set_quick_shutdown(asked.map(|asked| asked.enabled));
        self.shown()
    }

    /// `{"set_log_level": {"level": "DEBUG"}}`, in any letter case: 200 with the service.
    pub async fn set_log_level(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let SetLogLevel { level } = call.json("set_log_level")?;
        let level = LogLevel::from_word(&level).ok_or_else(|| {
            let words = LogLevel::ALL.map(LogLevel::as_str).join(", ");
            let text = format!("expected one of {words}, found `{level}`");
            Fault::BadRequest(format!("Invalid input for field `set_log_level.level`: {text}"))
        })?;
        self.deps.host.set_log_level(level).map_err(Fault::Conflict)?;
        self.shown()
    }

    fn shown(&self) -> Result<Reply, Fault> {
        let (host, engine) = (&self.deps.host, &self.deps.engine);
        let mut holdings: BTreeMap<_, _> =
            engine.holdings().into_iter().map(|holding| (holding.name, holding.lines)).collect();
        let reconcilers = engine.beats().into_iter().map(|beat| {
            let holds = holdings.remove(beat.name).unwrap_or_default();
            Reconciler::new(beat, holds)
        });
        let logging = host.logging();
        let shown = Shown {
            version: self.deps.about.version,
            log_level: logging.level.map(LogLevel::as_str),
            log_filter: logging.filter,
            quick_shutdown: host.quick_shutdown(),
            reconcilers: reconcilers.collect(),
            process: host.process(),
        };
        Reply::member(StatusCode::OK, "service", &shown)
    }
}

/// Reads the clouds of `pileus.toml` again, and brings them in: all, or, with a broken file, none.
pub async fn reconfigure(deps: &Deps, by: Actor) -> Result<Receipt, Refusal> {
    let clouds = deps.host.configured_clouds().await.map_err(Refusal::Conflict)?;
    deps.engine.submit(Command::Reconfigure { clouds }, by).await
}

/// Jobs that got no VM, in the order of their ids, and why: what the scheduler says of a job that
/// waits, how VMs of its owner and type failed that were booted for jobs like it, and what it ended of.
pub fn job_failures(view: &View) -> impl Iterator<Item = (&Arc<Job>, Vec<&str>)> {
    let mut errors: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for vm in view.vms.values().filter(|vm| vm.registered.is_none()) {
        if let Some(error) = &vm.last_error {
            errors.entry((&vm.project, &vm.user, &vm.vm_type)).or_default().insert(error);
        }
    }
    view.jobs.values().filter_map(move |job| {
        let mut reasons = Vec::new();
        if matches!(job.state, JobState::New | JobState::Error) {
            reasons.extend(job.reason.as_deref());
        }
        if matches!(job.state, JobState::New | JobState::Scheduled) {
            reasons.extend(errors.get(&(&job.project, &job.user, &job.vm_type)).into_iter().flatten());
        }
        (!reasons.is_empty()).then_some((job, reasons))
    })
}
