//! The text of limits, as Nova writes them, and in the typed form.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pileus::{
    diagnostic::Report,
    paste::{self, Catalog, Files, Strategy},
    pipeline::BuildDeps,
};

fuzz_target!(|input: (bool, &str)| {
    let (typed, text) = input;
    let limits = match typed {
        true => format!("[{text}]"),
        false => serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f"),
    };
    let text = format!(
        "[server.a]\nlisten = \"127.0.0.1:0\"\napp = \"p\"\n[pipeline.p]\n\
         pipeline = [\"samesite\", \"noauth\", \"ratelimit\", \"versions\"]\n[filter.ratelimit]\nlimits = {limits}\n"
    );
    let mut report = Report::default();
    let files = Files::from_text("api-paste.toml", &text, Path::new("/nowhere"), &|_: &str| None, &mut report);
    let Some(files) = files else { return };
    let strategy = Strategy { name: "token", place: None, known: true };
    let plan = paste::check(&files, &Catalog::COMPILED_IN, strategy, &mut report);
    let built = paste::build(&plan, &BuildDeps::idle(), &mut report);
    assert!(report.errors() > 0 || built.len() == 1);
    let _ = report.render(false);
});
