//! The controller of `/v2/{project_id}/service`.

use std::{collections::BTreeMap, sync::Arc};

use pileus_sdk::{
    Call, Column, Deps, Fault, Page, Reply, SortValue, StatusCode,
    body::pieces,
    header,
    host::LogLevel,
    json,
    model::{Actor, Backup, Command, ImageRecord, Job, Name, Receipt, Refusal, Stray, View},
};

use crate::{
    body::{
        CloudShown, Failures, ImageFails, JobFailed, OptionShown, QuickShutdown, Reconciler, ReloadShown,
        ReloadsShown, SetLogLevel, SharesShown, Shown,
    },
    record::{record, record_or_log},
};

pub struct Service {
    pub deps: Deps,
}

/// Sort keys of a list of strays.
pub const STRAY_COLUMNS: &[Column<Stray>] = &[
    Column::id("machine", |stray| SortValue::text(&stray.machine)),
    Column::new("driver", |stray| SortValue::text(&stray.driver)),
];

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
        let shares = self.deps.engine.shares().await?;
        Reply::member(StatusCode::OK, "shares", &SharesShown::new(&shares))
    }

    /// `{"failures": {"jobs": […], "images": […]}}`.
    pub async fn failures(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let view = self.deps.engine.view();
        let jobs = failed_jobs(&view).map(|job| JobFailed::new(&view, job)).collect();
        let images = failing_images(&view).flat_map(|(cloud, images)| {
            images.into_iter().map(|(image, record)| ImageFails::new(cloud, image, record))
        });
        Reply::member(StatusCode::OK, "failures", &Failures { jobs, images: images.collect() })
    }

    /// `{"strays": [{"machine", "driver"}]}`. Their drivers ended them.
    pub async fn strays(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let cut = Page::of(&call)?.of_list(self.deps.engine.strays(), STRAY_COLUMNS, &[])?;
        let shown = cut.map(|stray| json!({ "machine": &*stray.machine, "driver": stray.driver }));
        shown.reply(&call, "strays")
    }

    /// `{"timings": {"servers": […], "stages": [{"pipeline", "stage", "count", "own", "total"}]}}`.
    pub async fn timings(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        Reply::member(StatusCode::OK, "timings", &self.deps.host.timings())
    }

    /// A copy of the state: an SQLite database. 507: the disk is full. The length is in the head, so that a copy
    /// that breaks off is noticed.
    pub async fn backup(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let backup = self.deps.engine.backup().await?;
        let length = backup.bytes.to_string();
        let next = |(backup, at): (Backup, u64)| async move {
            let part = (backup.read)(at).await.ok().filter(|part| !part.is_empty())?;
            let at = at + part.len() as u64;
            Some((part, (backup, at)))
        };
        let reply = Reply::stream("application/vnd.sqlite3", pieces((backup, 0), next))?;
        let reply = reply.header(header::CONTENT_LENGTH, &length).header(header::CACHE_CONTROL, "no-store");
        Ok(reply.header(header::CONTENT_DISPOSITION, "attachment; filename=\"pileus.backup\""))
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

    /// `{"reload": null}`: 200 with what came of it. 409: something is wrong with the files, and where;
    /// nothing was changed.
    pub async fn reload(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        call.nothing("reload")?;
        record_or_log(&self.deps, "reload", "", call.actor()).await?;
        let reload = self.deps.host.reload(call.actor()).await.map_err(Fault::Conflict)?;
        match reload.problem {
            None => Reply::member(StatusCode::OK, "reload", &ReloadShown::new(reload)),
            Some(problem) => Err(Fault::Conflict(problem)),
        }
    }

    /// `{"quick_shutdown": {"enabled": true}}`, or `null` to turn it over: 200 with the service.
    pub async fn quick_shutdown(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let asked: Option<QuickShutdown> = call.json("quick_shutdown")?;
        set_quick_shutdown(&self.deps, asked.map(|asked| asked.enabled), call.actor()).await?;
        self.shown()
    }

    /// `{"set_log_level": {"level": "DEBUG"}}`, in any letter case: 200 with the service. 507, 503: its event
    /// cannot be written; the level stays.
    pub async fn set_log_level(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let SetLogLevel { level } = call.json("set_log_level")?;
        let level = LogLevel::from_word(&level).ok_or_else(|| {
            let words = LogLevel::ALL.map(LogLevel::as_str).join(", ");
            let text = format!("expected one of {words}, found `{level}`");
            Fault::BadRequest(format!("Invalid input for field `set_log_level.level`: {text}"))
        })?;
        set_log_level(&self.deps, level, call.actor()).await?.map_err(Fault::Conflict)?;
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
            protections: host.protections(),
            reloads: ReloadsShown::new(host.reloads()),
            process: host.process(),
        };
        Reply::member(StatusCode::OK, "service", &shown)
    }
}

/// Sets the flag, or with `None` turns it over, after its event. The event tells the value that was set.
pub async fn set_quick_shutdown(deps: &Deps, on: Option<bool>, by: Actor) -> Result<(), Refusal> {
    let on = on.unwrap_or_else(|| !deps.host.quick_shutdown());
    record_or_log(deps, "quick_shutdown", if on { "on" } else { "off" }, by).await?;
    deps.host.set_quick_shutdown(Some(on));
    Ok(())
}

/// Sets the level after its event. Without the event it stays: a log that tells less must not hide by whom.
/// `Ok(Err)`: why this process cannot.
pub async fn set_log_level(deps: &Deps, level: LogLevel, by: Actor) -> Result<Result<(), String>, Refusal> {
    record(deps, "set_log_level", level.as_str(), by).await?;
    Ok(deps.host.set_log_level(level))
}

/// Reads the clouds of `pileus.toml` again, and brings them in: all, or, with a broken file, none.
pub async fn reconfigure(deps: &Deps, by: Actor) -> Result<Receipt, Refusal> {
    let clouds = deps.host.configured_clouds().await.map_err(Refusal::Conflict)?;
    deps.engine.submit(Command::Reconfigure { clouds }, by).await
}

/// Jobs for which boots came to nothing since they ran last, in the order of their ids.
pub fn failed_jobs(view: &View) -> impl Iterator<Item = &Arc<Job>> {
    view.jobs.values().filter(|job| !job.failures.is_empty())
}

/// Images whose last boot came to nothing, by cloud, in the order of their names.
pub fn failing_images(view: &View) -> impl Iterator<Item = (&Name, Vec<(&Name, &ImageRecord)>)> {
    view.images.iter().filter_map(|(cloud, images)| {
        let fails = |record: &ImageRecord| record.boots.last() == Some(&false);
        let failing: Vec<_> = images.iter().filter(|(_, record)| fails(record)).collect();
        (!failing.is_empty()).then_some((cloud, failing))
    })
}
