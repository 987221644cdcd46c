//! Nothing uses what stands above it; each list holds what its folder holds.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

/// Who may use whom, of the crates in this house. The roof may use everything.
const ARROWS: &[(&str, &[&str])] = &[
    ("pileus-client", &[]),
    ("pileus-model", &[]),
    ("pileus-engine", &["pileus-model"]),
    ("pileus-sdk", &["pileus-model"]),
    ("pileus-ext-aliases", &["pileus-sdk"]),
    ("pileus-ext-clouds", &["pileus-sdk"]),
    ("pileus-ext-events", &["pileus-sdk"]),
    ("pileus-ext-jobs", &["pileus-sdk"]),
    ("pileus-ext-policy", &["pileus-sdk"]),
    ("pileus-ext-service", &["pileus-sdk"]),
    ("pileus-ext-users", &["pileus-sdk"]),
    ("pileus-ext-vms", &["pileus-sdk"]),
];

/// What must not be on a floor at all: the ground does no I/O, the engine serves no HTTP, and
/// extensions have the SDK alone.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("pileus-model", &["tokio", "hyper", "http", "rusqlite", "tower-service"]),
    ("pileus-engine", &["hyper", "hyper-util", "http", "tower-service", "matchit"]),
    ("pileus-sdk", &["tokio", "hyper", "hyper-util", "matchit", "rusqlite"]),
];

fn metadata() -> Vec<(String, Vec<String>)> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo speaks JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let normal = dependencies.iter().filter(|it| it["kind"].is_null());
            let names = normal.map(|it| it["name"].as_str().expect("a name").to_owned()).collect();
            (package["name"].as_str().expect("a name").to_owned(), names)
        })
        .collect()
}

#[test]
fn nothing_uses_what_stands_above_it() {
    let packages = metadata();
    for (name, dependencies) in &packages {
        let ours: BTreeSet<&str> =
            dependencies.iter().map(String::as_str).filter(|it| it.starts_with("pileus")).collect();
        if name == "pileus" || name == "pileus-bench" {
            continue;
        }
        let allowed = ARROWS.iter().find(|(floor, _)| floor == name);
        let allowed = allowed.unwrap_or_else(|| panic!("{name} stands on no floor: add it to ARROWS")).1;
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        assert!(ours.is_subset(&allowed), "{name} uses {ours:?}, and may use {allowed:?}");
        if name.starts_with("pileus-ext-") {
            assert_eq!(dependencies, &["pileus-sdk"], "{name} uses the SDK alone");
        }
        if let Some((_, forbidden)) = FORBIDDEN.iter().find(|(floor, _)| floor == name) {
            for dependency in dependencies {
                assert!(!forbidden.contains(&dependency.as_str()), "{name} must not use {dependency}");
            }
        }
    }
    for (floor, _) in ARROWS {
        assert!(packages.iter().any(|(name, _)| name == floor), "{floor} is in ARROWS and not in the house");
    }
}

/// Names of what a folder holds, without `mod.rs` and endings.
fn entries(folder: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    names
        .map(|name| name.trim_end_matches(".rs").to_owned())
        .filter(|name| !["mod", "testing"].contains(&name.as_str()))
        .collect()
}

#[test]
fn every_list_holds_what_its_folder_holds() {
    let filters: BTreeSet<String> =
        pileus::pipeline::FILTERS.iter().map(|filter| filter.name.to_owned()).collect();
    assert_eq!(filters, entries("src/filters"), "FILTERS and src/filters/");
    let extensions: BTreeSet<String> = pileus::extensions::aliases().into_iter().map(str::to_owned).collect();
    assert_eq!(extensions, entries("extensions"), "EXTENSIONS and extensions/");
    let drivers: BTreeSet<String> =
        pileus_engine::drivers::DRIVERS.iter().map(|it| (*it).to_owned()).collect();
    assert_eq!(drivers, entries("crates/engine/src/drivers"), "DRIVERS and crates/engine/src/drivers/");
    let sources: BTreeSet<String> =
        pileus_engine::sources::SOURCES.iter().map(|it| (*it).to_owned()).collect();
    assert_eq!(sources, entries("crates/engine/src/sources"), "SOURCES and crates/engine/src/sources/");
    for list in [pileus::pipeline::FILTERS.iter().map(|it| it.name).collect(), pileus::extensions::aliases()]
    {
        let mut sorted = list.clone();
        sorted.sort_unstable();
        assert_eq!(list, sorted, "a list is read in its order");
    }
}
