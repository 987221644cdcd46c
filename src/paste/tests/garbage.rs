//! No file may make the program panic, hang or grow without end.

use std::path::Path;

use super::catalog::{environment, run, run_with};
use crate::{
    config::{self, Config, Known},
    diagnostic::Report,
    paste::{Catalog, Files, SHIPPED, describe, to_json},
};

/// xorshift: the same garbage on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Some bytes away, twice, elsewhere, or replaced by what means something in these files.
fn mutate(text: &str, random: &mut Random) -> String {
    const WORDS: [&str; 20] = [
        "\"",
        "[",
        "]",
        "=",
        "\n",
        "${",
        "}",
        "$${",
        "use = \"",
        "factory",
        "config:x#filter.y",
        "é",
        "{",
        ",",
        "[[",
        "\u{0}",
        "-1",
        "[filter.operator]\n",
        "${here}",
        "next = \"api\"\n",
    ];
    let mut text = text.to_owned();
    for _ in 0..=random.below(4) {
        let start = border(&text, random.below(text.len()));
        let end = border(&text, start + random.below(30));
        let piece = text[start..end].to_owned();
        match random.below(4) {
            0 => text.replace_range(start..end, ""),
            1 => text.insert_str(end, &piece),
            2 => text.replace_range(start..end, WORDS[random.below(WORDS.len())]),
            _ => {
                text.replace_range(start..end, "");
                let to = border(&text, random.below(text.len() + 1));
                text.insert_str(to, &piece);
            }
        }
    }
    text
}

/// The first border between characters from there on.
fn border(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[test]
fn mutations_of_the_shipped_files_never_panic() {
    let known = Known { drivers: &["local"], stores: &["sqlite"], extensions: &["clouds"] };
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut whole, mut read) = (0, 0);
    for _ in 0..600 {
        let text = mutate(SHIPPED, &mut random);
        let mut report = Report::default();
        let files = Files::from_text("f.toml", &text, Path::new("/nowhere"), &environment, &mut report);
        read += usize::from(files.is_some());
        let (plan, built) = run_with(&Catalog::COMPILED_IN, files, "token", &mut report);
        whole += usize::from(report.errors() == 0);
        let _ = (report.render(false), describe(&plan), to_json(&plan));
        assert!(report.errors() > 0 || built.len() == plan.servers.len(), "{text}");
        let text = mutate(config::SHIPPED, &mut random);
        let mut report = Report::default();
        Config::from_text("p.toml", &text, Path::new(""), &known, &mut report);
        report.render(false);
    }
    // Some mutations hurt nothing, some the meaning, some the TOML: else this would test little.
    assert!(whole > 20 && read > whole + 20 && read < 590, "{whole} {read}");
}

#[test]
fn files_that_are_made_to_hurt_end() {
    let server = "[server.a]\nlisten = \"127.0.0.1:0\"\napp = \"p0\"\n";
    let deep: String = (0..3000).map(|i| format!("[pipeline.p{i}]\npipeline = [\"p{}\"]\n", i + 1)).collect();
    let pairs = |factory: &str, one: &str, two: &str, list: bool| {
        let name = |i: usize| if list { format!("[\"p{i}\"]") } else { format!("\"p{i}\"") };
        let section = |i: usize| {
            let next = name(i + 1);
            format!("[composite.p{i}]\nfactory = \"{factory}\"\n\"{one}\" = {next}\n\"{two}\" = {next}\n")
        };
        (0..60).map(section).collect::<String>() + "[app.p60]\nfactory = \"versions\"\n"
    };
    let uses: String = (0..3000).map(|i| format!("[filter.f{i}]\nuse = \"f{}\"\n", i + 1)).collect();
    let uses = uses + "[pipeline.p0]\npipeline = [\"f0\", \"echo\"]\n";
    let nested = format!("a = {}{}\n", "[".repeat(5000), "]".repeat(5000));
    let cases = [
        (deep, true),
        (pairs("urlmap", "/a", "/b", false), false),
        (pairs("auth_strategy", "token", "noauth", true), false),
        (uses, true),
        (nested, true),
    ];
    for (text, errors) in cases {
        let mut report = Report::default();
        let text = format!("{server}{text}");
        let files = Files::from_text("f.toml", &text, Path::new(""), &environment, &mut report);
        let (plan, _) = run(files, "token", &mut report);
        let _ = (describe(&plan), to_json(&plan));
        assert_eq!(report.errors() > 0, errors, "{}", report.render(false));
    }
}
