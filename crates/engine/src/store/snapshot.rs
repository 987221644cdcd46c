//! A view as bytes. A snapshot in another format than this is ignored where the events are all there; where they
//! were compacted, an older one is read.

use std::{collections::BTreeMap, sync::Arc};

use pileus_model::{
    Cloud, CloudHealth, ImageRecord, Job, JobIndex, Name, OrdMap, Proxies, Token, UsedKey, View, Vm,
};
use serde::{Deserialize, Serialize};

use crate::{
    state::{job_sharing, vm_sharing},
    waiting::count_all,
};

/// To be raised whenever the fold or the shape below changes, so that old snapshots are not used.
pub const FORMAT: u32 = 6;

/// The oldest format that [`decode`] reads. Where events were compacted, a snapshot of an older program is all that
/// there is: fields are added with `#[serde(default)]`, and this number stays.
pub const OLDEST: u32 = 6;

#[derive(Serialize, Deserialize)]
struct Snapshot<V, J> {
    seq: u64,
    clouds: Vec<Arc<Cloud>>,
    vms: Vec<V>,
    jobs: Vec<J>,
    aliases: Vec<(Name, Arc<[String]>)>,
    user_limits: Vec<(Name, u32)>,
    file_aliases: Vec<Name>,
    file_limits: Vec<Name>,
    proxies: Vec<(Name, Arc<Proxies>)>,
    tokens: Vec<Arc<Token>>,
    images: Vec<(Name, Arc<BTreeMap<Name, ImageRecord>>)>,
    health: Vec<(Name, CloudHealth)>,
    keys: Vec<(Name, Arc<UsedKey>)>,
}

pub fn encode(view: &View) -> serde_json::Result<Vec<u8>> {
    // Every field is named, so that a new one cannot be forgotten here.
    let View {
        seq,
        clouds,
        vms,
        jobs,
        index: _,
        aliases,
        user_limits,
        file_aliases,
        file_limits,
        proxies,
        tokens,
        images,
        health,
        keys,
        keys_by_age: _,
        waiting: _,
    } = view;
    serde_json::to_vec(&Snapshot {
        seq: *seq,
        clouds: clouds.values().cloned().collect(),
        vms: vms.values().cloned().collect(),
        jobs: jobs.values().cloned().collect(),
        aliases: aliases.iter().map(|(name, clouds)| (name.clone(), clouds.clone())).collect(),
        user_limits: user_limits.iter().map(|(user, vms)| (user.clone(), *vms)).collect(),
        file_aliases: file_aliases.iter().cloned().collect(),
        file_limits: file_limits.iter().cloned().collect(),
        proxies: proxies.iter().map(|(user, proxies)| (user.clone(), proxies.clone())).collect(),
        tokens: tokens.values().cloned().collect(),
        images: images.iter().map(|(cloud, images)| (cloud.clone(), images.clone())).collect(),
        health: health.iter().map(|(cloud, health)| (cloud.clone(), health.clone())).collect(),
        keys: keys.iter().map(|(key, used)| (key.clone(), used.clone())).collect(),
    })
}

pub fn decode(bytes: &[u8]) -> serde_json::Result<View> {
    let it: Snapshot<Vm, Job> = serde_json::from_slice(bytes)?;
    let jobs = it.jobs.into_iter().map(|job| (job.id.clone(), Arc::new(job_sharing(job))));
    let jobs: OrdMap<_, _> = jobs.collect();
    let mut view = View {
        seq: it.seq,
        clouds: it.clouds.into_iter().map(|cloud| (cloud.name.clone(), cloud)).collect(),
        vms: it.vms.into_iter().map(|vm| (vm.id.clone(), Arc::new(vm_sharing(vm)))).collect(),
        index: JobIndex::of(jobs.values()),
        jobs,
        aliases: it.aliases.into_iter().collect(),
        user_limits: it.user_limits.into_iter().collect(),
        file_aliases: it.file_aliases.into_iter().collect(),
        file_limits: it.file_limits.into_iter().collect(),
        proxies: it.proxies.into_iter().collect(),
        tokens: it.tokens.into_iter().map(|token| (token.sha256.clone(), token)).collect(),
        images: it.images.into_iter().collect(),
        health: it.health.into_iter().collect(),
        keys_by_age: it.keys.iter().map(|(key, used)| (used.seq, key.clone())).collect(),
        keys: it.keys.into_iter().collect(),
        waiting: Default::default(),
    };
    count_all(&mut view);
    Ok(view)
}
