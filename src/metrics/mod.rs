//! What this process counts and measures, for `GET /metrics`, `pileus explain --time` and
//! `/v2/{project_id}/service/timings`.
//!
//! Requests write to relaxed atomics and take no lock. Names of pipelines, filters and servers come from
//! `api-paste.toml` alone, so that no client makes a number more. Why no crate does this:
//! `docs/decisions/0011-metrics.md`.

mod histogram;
mod page;
mod server;
mod stage;
mod text;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use pileus_model::Clock;
use pileus_sdk::host::{StageTimes, Timings};

pub use self::{
    histogram::{BOUNDS_NS, Counts, Histogram},
    page::{Sources, page},
    server::{Limit, Open, ServerCounts},
    stage::Stage,
    text::{CONTENT_TYPE, Kind, Metric},
};

/// What a process counts of its pipelines and servers. Pipelines and servers keep it alive: one that a reload
/// takes away is gone, one that stays goes on counting.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By pipeline and filter.
    stages: Shared<(String, String), Stage>,
    servers: Shared<String, ServerCounts>,
}

impl Metrics {
    /// The times of a filter or app in a pipeline; those from before, where it stood there already.
    pub fn stage(&self, pipeline: &str, stage: &str, clock: &Arc<dyn Clock>) -> Arc<Stage> {
        self.stages.of((pipeline.to_owned(), stage.to_owned()), || Stage::new(clock.clone()))
    }

    /// The counts of a server.
    pub fn server(&self, name: &str, clock: &Arc<dyn Clock>) -> Arc<ServerCounts> {
        self.servers.of(name.to_owned(), || ServerCounts::new(clock.clone()))
    }

    /// What is known of stages and of whole requests.
    pub fn timings(&self) -> Timings {
        let shown = |pipeline: String, name: String, stage: &Stage| {
            let (own, total) = (stage.own.counts(), stage.total.counts());
            StageTimes { pipeline, stage: name, count: own.count(), own: own.times(), total: total.times() }
        };
        let servers = self.servers.all().into_iter();
        let stages = self.stages.all().into_iter();
        Timings {
            servers: servers.map(|(name, it)| shown(format!("server.{name}"), name, &it.times)).collect(),
            stages: stages.map(|((pipeline, name), it)| shown(pipeline, name, &it)).collect(),
        }
    }
}

/// Values by their names, kept alive by whoever has them.
#[derive(Debug)]
struct Shared<K, T>(Mutex<BTreeMap<K, Weak<T>>>);

impl<K: Ord + Clone, T> Shared<K, T> {
    fn of(&self, key: K, make: impl FnOnce() -> T) -> Arc<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, it| it.strong_count() > 0);
        if let Some(it) = all.get(&key).and_then(Weak::upgrade) {
            return it;
        }
        let made = Arc::new(make());
        all.insert(key, Arc::downgrade(&made));
        made
    }

    fn all(&self) -> Vec<(K, Arc<T>)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(|(key, it)| Some((key.clone(), it.upgrade()?))).collect()
    }
}

impl<K, T> Default for Shared<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}
