//! What the info port says of the service itself, to the byte where there was something to keep.
//!
//! Source: Cloud Scheduler 1.13.2, observed on loopback. `/developer-info` was a heap profile of
//! Python, `/shared-objs` always failed: both are free text. Entries come in a fixed order.

use std::{collections::BTreeSet, fmt::Write, sync::Arc};

use pileus_sdk::{Call, Deps, Fault, Reply, model::TypeShare};

use crate::service::{failed_jobs, failing_images};

pub struct OldInfo {
    pub deps: Deps,
}

impl OldInfo {
    /// `GET /cloud/config`: a line for each section. A file that is broken is `None`.
    pub async fn config(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let Ok(clouds) = self.deps.host.clouds_on_disk().await else { return Reply::text("None") };
        Reply::text(clouds.iter().fold(String::new(), |mut text, cloud| {
            text += &format!("{} ", cloud.name);
            text.extend(cloud.options.iter().map(|(option, value)| format!("[{option},{value}]")));
            text + "\n"
        }))
    }

    /// `GET /developer-info`.
    pub async fn developer_info(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let (host, view) = (&self.deps.host, self.deps.engine.view());
        let (process, logging) = (host.process(), host.logging());
        let level = logging.level.map_or("as PILEUS_LOG says", |level| level.as_str());
        let quick = if host.quick_shutdown() { "on" } else { "off" };
        let (resident, peak) = (process.memory_resident_kib, process.memory_peak_kib);
        let facts = [
            ("Version", format!("Pileus {}", self.deps.about.version)),
            ("Process", process.pid.to_string()),
            ("Memory", format!("{resident} KiB resident, {peak} KiB at its peak")),
            ("Addresses", format!("{} KiB", process.memory_virtual_kib)),
            ("Threads", process.threads.to_string()),
            ("Open files", process.open_files.to_string()),
            (
                "Tasks",
                format!("{} on {} workers, {} ready", process.tasks, process.workers, process.tasks_waiting),
            ),
            (
                "State",
                format!(
                    "{} clouds, {} VMs, {} jobs after {} events",
                    view.clouds.len(),
                    view.vms.len(),
                    view.jobs.len(),
                    view.seq
                ),
            ),
            ("Log level", format!("{level} ({})", logging.filter)),
            ("Quick shutdown", quick.to_owned()),
        ];
        Reply::text(facts.iter().map(|(name, fact)| format!("{name}: {fact}\n")).collect::<String>())
    }

    /// `GET /diff-types`.
    pub async fn diff_types(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let shares = self.deps.engine.shares().await?;
        let lists = [
            ("Diff Types dictionary", &shares.diff),
            ("Current Types (vms)", &shares.current),
            ("Desired Types (jobs)", &shares.desired),
        ];
        Reply::text(lists.into_iter().fold(String::new(), |mut text, (title, shares)| {
            text += &format!("{title}\n");
            text.extend(shares.iter().map(line));
            text
        }))
    }

    /// `GET /failures?type=boot|image`.
    pub async fn failures(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        match call.query().get("type") {
            Some("boot") => self.boot_failures(call).await,
            Some("image") => self.image_failures(call).await,
            _ => Err(Fault::NoRoute),
        }
    }

    /// `GET /failures/boot`.
    pub async fn boot_failures(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let view = self.deps.engine.view();
        let mut text = String::from("Job Failure Reasons:\n");
        for job in failed_jobs(&view) {
            text += &format!("   Job ID: {}\n", job.id);
            // A reason stands once, however often it was one.
            let reasons: BTreeSet<_> = job.failures.iter().map(|failure| failure.fault.as_str()).collect();
            text.extend(reasons.iter().map(|reason| format!("      {reason}\n")));
        }
        Reply::text(text)
    }

    /// `GET /failures/image`: images whose last boot there came to nothing. Cloud Scheduler never
    /// took one off the list again.
    pub async fn image_failures(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let view = self.deps.engine.view();
        let mut text = String::from("Image Failure List\n");
        for (cloud, images) in failing_images(&view) {
            text += &format!("   Cloud: {cloud}\n");
            text.extend(images.iter().map(|(image, _)| format!("      Image: {image}\n")));
        }
        Reply::text(text)
    }

    /// `GET /shared-objs`: a block for each reconciler.
    pub async fn shared_objs(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let blocks = self.deps.engine.holdings().into_iter().map(|holding| {
            let lines: String = holding.lines.iter().map(|line| format!("{line}\n")).collect();
            format!("{} Thread:\n{lines}\n", holding.name)
        });
        Reply::text(blocks.collect::<String>())
    }
}

/// Six decimals, rounded, as C writes a float.
fn line(share: &TypeShare) -> String {
    let millionths = (share.billionths.abs() + 500) / 1000;
    let sign = if share.billionths < 0 { "-" } else { "" };
    let mut text = format!("type: {}:{}, dist: {sign}", share.user, share.vm_type);
    // Writing to a text cannot fail.
    writeln!(text, "{}.{:06}", millionths / 1_000_000, millionths % 1_000_000).ok();
    text
}
