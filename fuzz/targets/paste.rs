//! The text of `api-paste.toml`: parsed, checked, built, described.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pileus::{
    diagnostic::Report,
    paste::{self, Catalog, Files, Strategy},
    pipeline::BuildDeps,
};

fuzz_target!(|text: &str| {
    let mut report = Report::default();
    let environment = |name: &str| (name == "SET").then(|| "value".to_owned());
    let files = Files::from_text("api-paste.toml", text, Path::new("/nowhere"), &environment, &mut report);
    if let Some(files) = files {
        let strategy = Strategy { name: "token", place: None, known: true };
        let plan = paste::check(&files, &Catalog::COMPILED_IN, strategy, &mut report);
        let built = paste::build(&plan, &BuildDeps::idle(), &mut report);
        assert!(report.errors() > 0 || built.len() == plan.servers.len());
        let _ = (paste::describe(&plan), paste::to_json(&plan), paste::to_dot(&plan));
        for server in &plan.servers {
            let way = plan.way(server, None, "/v2/p/clouds/a");
            let _ = paste::way_to_json(server, &way);
        }
    }
    let _ = report.render(false);
});
