//! `pileus convert FILE...`: reads, converts, and writes to stdout or into a folder.

use std::{
    fs::{self, OpenOptions},
    io::{self, IsTerminal, Write},
    path::Path,
};

use serde_json::{Value, json};

use super::{CONFIG, FAILED, OK, UNAVAILABLE};
use crate::{
    cli::Convert,
    convert::{self, Conversion, Input, Output},
};

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;

pub fn run(options: &Convert) -> u8 {
    let mut inputs = Vec::new();
    let mut broken = false;
    for path in &options.files {
        match read(path) {
            Ok(text) => inputs.push(Input { name: path.display().to_string(), text }),
            Err(why) => {
                super::tell(format_args!("error: {}: {why}", path.display()));
                broken = true;
            }
        }
    }
    if broken {
        return CONFIG;
    }
    let made = convert::convert(&inputs, options.kind);
    say(&made, options.json);
    if made.errors.errors() > 0 {
        return CONFIG;
    }
    let folder = options.out.as_deref().filter(|path| *path != Path::new("-"));
    if let Some(folder) = folder
        && let Err(why) = write(folder, &made.outputs, options.force)
    {
        super::tell(format_args!("error: {why}"));
        return UNAVAILABLE;
    }
    show(&made, folder, options.json);
    if made.notes.clean() { OK } else { FAILED }
}

fn read(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_BYTES {
        return Err(format!("{size} bytes are more than a file of settings has"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes)
        .map_err(|error| format!("is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
}

/// What could not be carried over, and why, on stderr.
fn say(made: &Conversion, json: bool) {
    let colour = io::stderr().is_terminal();
    if made.errors.errors() > 0 {
        super::tell(format_args!("{}", made.errors.render(colour).trim_end()));
        return;
    }
    for told in made.notes.report().sorted().into_iter().filter(|_| !json) {
        super::tell(format_args!("{}\n", told.render(colour)));
    }
    super::tell(format_args!("{}", made.notes.summary()));
}

/// All files or none; none that is there is replaced, unless that is wanted.
fn write(folder: &Path, outputs: &[Output], force: bool) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let there: Vec<String> = outputs
        .iter()
        .map(|output| folder.join(output.name))
        .filter(|path| !force && path.symlink_metadata().is_ok())
        .map(|path| path.display().to_string())
        .collect();
    if !there.is_empty() {
        return Err(format!(
            "{} is there already: nothing was written (`--force` replaces)",
            there.join(", ")
        ));
    }
    for output in outputs {
        let path = folder.join(output.name);
        let written = match force {
            true => replace(&path, &output.text),
            false => OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&path)
                .and_then(|mut file| file.write_all(output.text.as_bytes())),
        };
        written.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// Replaced whole: whoever reads it meanwhile sees the old file or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

/// What was made, on stdout. A closed pipe means that the reader has seen enough.
fn show(made: &Conversion, folder: Option<&Path>, json: bool) {
    let mut out = io::stdout().lock();
    let path = |output: &Output| folder.map(|folder| folder.join(output.name).display().to_string());
    if json {
        let file =
            |output: &Output| json!({ "name": output.name, "path": path(output), "text": output.text });
        let files: Vec<Value> = made.outputs.iter().map(file).collect();
        writeln!(out, "{:#}", json!({ "files": files, "notes": made.notes.to_json() })).ok();
        return;
    }
    for output in &made.outputs {
        match path(output) {
            Some(path) => writeln!(out, "{path}").ok(),
            None if made.outputs.len() > 1 => writeln!(out, "==> {} <==\n{}", output.name, output.text).ok(),
            None => write!(out, "{}", output.text).ok(),
        };
    }
}
