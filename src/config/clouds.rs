//! `[clouds.NAME]` of `pileus.toml`.
//!
//! | key | default | meaning |
//! | --- | --- | --- |
//! | `driver` | `"local"` | what boots its VMs |
//! | `enabled` | `true` | whether it takes new VMs, until an administrator says otherwise |
//! | `vm_slots` | 2 | most VMs at a time; 0 is none |
//! | `cpu_cores` | 2 | cores of the largest VM it takes |
//! | `memory_mib` | 1024 | memory for all its VMs together, in MiB |
//! | `storage_gib` | 10 | storage for all its VMs together, in GiB |
//! | `priority` | 0 | the lower number is used first |
//! | `keep_alive_s` | 60 | how long an idle VM is kept, in seconds |
//! | `boot_timeout_s` | 60 | how long a VM may take to start, in seconds |
//! | `max_vm_memory_mib` | none | memory of the largest VM it takes, in MiB |

use std::{num::NonZeroU32, sync::Arc};

use pileus_model::CloudSpec;
use pileus_sdk::host::CloudText;
use serde::{Deserialize, Deserializer, de::Error};

use super::{Known, Said, one_of, section};
use crate::{
    diagnostic::{Diagnostic, Report, Source},
    paste::{Kind, Setting, Table, in_order, whole_table},
};

/// `[clouds.NAME]` as written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Cloud {
    driver: String,
    enabled: bool,
    #[serde(deserialize_with = "count")]
    vm_slots: u32,
    #[serde(deserialize_with = "count")]
    cpu_cores: u32,
    memory_mib: u32,
    storage_gib: u32,
    priority: i64,
    keep_alive_s: u32,
    boot_timeout_s: NonZeroU32,
    max_vm_memory_mib: Option<NonZeroU32>,
}

impl Default for Cloud {
    fn default() -> Self {
        Self {
            driver: "local".into(),
            enabled: true,
            vm_slots: 2,
            cpu_cores: 2,
            memory_mib: 1024,
            storage_gib: 10,
            priority: 0,
            keep_alive_s: 60,
            boot_timeout_s: const { NonZeroU32::new(60).unwrap() },
            max_vm_memory_mib: None,
        }
    }
}

impl From<Cloud> for CloudSpec {
    fn from(cloud: Cloud) -> Self {
        Self {
            driver: cloud.driver,
            enabled: cloud.enabled,
            vm_slots: cloud.vm_slots,
            cpu_cores: cloud.cpu_cores,
            memory_mib: cloud.memory_mib.into(),
            storage_gib: cloud.storage_gib.into(),
            priority: cloud.priority,
            keep_alive_s: cloud.keep_alive_s.into(),
            boot_timeout_s: Some(cloud.boot_timeout_s.get().into()),
            max_vm_memory_mib: cloud.max_vm_memory_mib.map(|most| most.get().into()),
        }
    }
}

/// All clouds, in the order of the file; with none, the one that is there by default.
pub fn clouds(top: &Table, known: &Known<'_>, report: &mut Report) -> Vec<(String, CloudSpec)> {
    let tables = match top.get("clouds").map(|setting| &setting.value.kind) {
        Some(Kind::Table(tables)) => in_order(tables),
        _ => Vec::new(),
    };
    let mut found: Vec<(String, CloudSpec)> = Vec::new();
    for (name, setting) in &tables {
        let section = section(&format!("clouds.{name}"), setting);
        if let Some(why) = bad_name(name) {
            let text = format!("a cloud cannot have the name {name:?}: {why}");
            report.push(Diagnostic::error(text).at(setting.key.clone()));
        }
        if let Some((other, _)) = found.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)) {
            let text = format!("`{name}` and `{other}` are one cloud to the old ports");
            let help = "they do not tell capitals from small letters: rename one of the two";
            report.push(Diagnostic::error(text).at(setting.key.clone()).help(help));
        }
        if let Some(Setting { value, .. }) = section.settings.get("driver")
            && let Some(driver) = value.as_text()
        {
            let said = Said { value: driver.to_owned(), place: Some(value.place.clone()) };
            one_of(&said, "driver", known.drivers, report);
        }
        let cloud = report.take(section.parse::<Cloud>()).unwrap_or_default();
        found.push(((*name).clone(), cloud.into()));
    }
    if tables.is_empty() {
        found.push(("local".into(), Cloud::default().into()));
    }
    found
}

/// Every `[clouds.NAME]` as it stands in the file, understood or not, without its secrets. `None`:
/// the file is no TOML.
pub fn cloud_texts(source: &Arc<Source>, report: &mut Report) -> Option<Vec<CloudText>> {
    let top = whole_table(source, report)?;
    let Some(Kind::Table(clouds)) = top.get("clouds").map(|setting| &setting.value.kind) else {
        return Some(Vec::new());
    };
    let text = |(name, setting): (&String, &Setting)| {
        let options = match &setting.value.kind {
            Kind::Table(options) => in_order(options),
            _ => Vec::new(),
        };
        let options = options.into_iter().map(|(option, setting)| (option.to_lowercase(), &setting.value));
        let options = options.filter(|(option, _)| !is_secret(option));
        let options = options.map(|(option, value)| {
            let value = value.as_text().map_or_else(|| value.to_string(), str::to_owned);
            (option, value)
        });
        CloudText { name: name.clone(), options: options.collect() }
    };
    Some(in_order(clouds).into_iter().map(text).collect())
}

/// What nobody is shown: the four options of Cloud Scheduler, and whatever is called like them.
/// Paths of files that hold a secret are not secret.
fn is_secret(option: &str) -> bool {
    let words =
        ["password", "passphrase", "secret", "token", "secret_access_key", "access_key_id", "username"];
    words.iter().any(|word| option == *word || option.ends_with(&format!("_{word}")))
}

/// Most VMs of a cloud, most cores of a VM: the engine's bound.
const COUNT_MAX: u32 = 1_000_000;

/// Longest name of a cloud, in bytes: the engine's bound.
const NAME_MAX: usize = 255;

fn count<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let count = u32::deserialize(from)?;
    if count > COUNT_MAX {
        return Err(D::Error::custom(format!("`{count}` is more than {COUNT_MAX}")));
    }
    Ok(count)
}

/// Why a cloud cannot be called this.
fn bad_name(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("it is empty"),
        // Clients take these out of a URL before they send it.
        "." | ".." => Some("it is a step of a path"),
        _ if name.len() > NAME_MAX => Some("it is longer than 255 bytes"),
        _ if name.contains(char::is_control) => Some("it holds a control character"),
        _ => None,
    }
}
