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

use pileus_model::{CloudSpec, Name};
use serde::Deserialize;

use super::{Known, Said, one_of, section};
use crate::{
    diagnostic::{Diagnostic, Report},
    paste::{Kind, Setting, Table, in_order},
};

/// `[clouds.NAME]` as written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Cloud {
    driver: String,
    enabled: bool,
    vm_slots: u32,
    cpu_cores: u32,
    memory_mib: u32,
    storage_gib: u32,
    priority: i64,
    keep_alive_s: u32,
    boot_timeout_s: u32,
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
            boot_timeout_s: 60,
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
            boot_timeout_s: Some(cloud.boot_timeout_s.into()),
        }
    }
}

/// All clouds, in the order of the file; with none, the one that is there by default.
pub fn clouds(top: &Table, known: &Known<'_>, report: &mut Report) -> Vec<(Name, CloudSpec)> {
    let tables = match top.get("clouds").map(|setting| &setting.value.kind) {
        Some(Kind::Table(tables)) => in_order(tables),
        _ => Vec::new(),
    };
    let mut found: Vec<(Name, CloudSpec)> = Vec::new();
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
        found.push((name.as_str().into(), cloud.into()));
    }
    if tables.is_empty() {
        found.push(("local".into(), Cloud::default().into()));
    }
    found
}

/// Why a cloud cannot be called this: its name stands in paths, and beside the API's own words.
fn bad_name(name: &str) -> Option<&'static str> {
    let odd = |c: char| c.is_control() || c.is_whitespace() || "/?#%\\,".contains(c);
    match name {
        "" => Some("it is empty"),
        "detail" | "action" | "." | ".." => Some("it means something else in a path"),
        _ if name.contains(odd) => Some("it holds a space, or one of / ? # % \\ ,"),
        _ => None,
    }
}
