//! A consistent picture of everything, cheap to copy and never locked.

use std::{collections::BTreeMap, sync::Arc};

use imbl::{OrdMap, OrdSet};

use crate::{Cloud, CloudHealth, ImageRecord, Job, JobIndex, Name, Proxies, Token, UsedKey, Vm};

/// The state after an event. The engine folds events into it; everybody else reads.
///
/// The maps share their structure between versions: copying a view costs a few reference counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The last event in it; 0: none.
    pub seq: u64,
    /// Clouds by name.
    pub clouds: OrdMap<Name, Arc<Cloud>>,
    /// VMs by id.
    pub vms: OrdMap<Name, Arc<Vm>>,
    /// Jobs by id.
    pub jobs: OrdMap<Name, Arc<Job>>,
    /// The same jobs by what the scheduler does with them.
    pub index: JobIndex,
    /// Jobs that wait or are held, by project. Follows from `jobs`.
    pub waiting: OrdMap<Name, Waiting>,
    /// Aliases by name.
    pub aliases: OrdMap<Name, Arc<[String]>>,
    /// Most VMs of a user in each project, by name; or in one project, by `PROJECT/USER`.
    pub user_limits: OrdMap<Name, u32>,
    /// Those of `aliases` that the alias file brought: they go when they go from it.
    pub file_aliases: OrdSet<Name>,
    /// Those of `user_limits` that the user-limit file brought.
    pub file_limits: OrdSet<Name>,
    /// What is known of users' proxies.
    pub proxies: OrdMap<Name, Arc<Proxies>>,
    /// Tokens by their hash.
    pub tokens: OrdMap<Name, Arc<Token>>,
    /// How boots from the images that jobs name went: by cloud, then by image.
    pub images: OrdMap<Name, Arc<BTreeMap<Name, ImageRecord>>>,
    /// Failures in a row of the VMs of a cloud, by cloud; absent: none.
    pub health: OrdMap<Name, CloudHealth>,
    /// Idempotency keys that were used of late.
    pub keys: OrdMap<Name, Arc<UsedKey>>,
    /// The same by their age, the oldest first.
    pub keys_by_age: OrdMap<u64, Name>,
}

/// Jobs of a project that neither run nor have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Number of jobs.
    pub jobs: u64,
    /// Bytes of their commands and names.
    pub bytes: u64,
}

impl View {
    /// The cloud of this name, exactly; failing that, of this name in another ASCII case.
    pub fn cloud(&self, name: &str) -> Option<&Arc<Cloud>> {
        self.clouds
            .get(name)
            .or_else(|| self.clouds.values().find(|cloud| cloud.name.eq_ignore_ascii_case(name)))
    }

    /// Clouds in the order of the configuration, retired ones last.
    pub fn clouds_in_order(&self) -> Vec<&Arc<Cloud>> {
        let mut clouds: Vec<_> = self.clouds.values().collect();
        clouds.sort_by_key(|cloud| (cloud.retired, cloud.order, cloud.name.clone()));
        clouds
    }

    /// Returns the most VMs of a user in a project: the limit of `PROJECT/USER`, else that of the name. `None`: no
    /// limit.
    pub fn user_limit(&self, project: &str, user: &str) -> Option<u32> {
        if self.user_limits.is_empty() {
            return None;
        }
        let own = self.user_limits.get(format!("{project}/{user}").as_str());
        own.or_else(|| self.user_limits.get(user)).copied()
    }

    /// VMs of a cloud in the order of their creation.
    pub fn vms_of<'a>(&'a self, cloud: &'a str) -> impl Iterator<Item = &'a Arc<Vm>> {
        self.vms.values().filter(move |vm| &*vm.cloud == cloud)
    }
}
