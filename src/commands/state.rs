//! `pileus state backup`, `restore`, `compact`, `export-events`: the state folder as a whole.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pileus_engine::{
    OpenError, StartError, SystemClock,
    backup::{self, RestoreError},
};

use super::{
    CONFIG, FAILED, OK, SOFTWARE, UNAVAILABLE,
    api_server::{self, Failure},
    explain::fail,
};
use crate::{
    cli::{Compact, StateCommand, TokenAccess},
    client,
};

/// Runs the command.
pub fn run(command: &StateCommand) -> u8 {
    let done = match command {
        StateCommand::Backup { file, access } => back_up(file, access),
        StateCommand::Restore(it) => restore(&it.file, it.options.state()),
        StateCommand::Compact(it) => compact(it),
        StateCommand::ExportEvents(it) => export(&it.file, it.options.state()),
    };
    match done {
        Ok(text) => {
            super::tell(format_args!("{text}"));
            OK
        }
        Err((code, text)) => fail(code, &text),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(|error| (SOFTWARE, format!("no threads can be started: {error}")))
}

/// Makes a file that is not there yet; removes it where `fill` fails.
fn with_new_file<T>(path: &Path, fill: impl FnOnce(&File) -> Result<T, Failure>) -> Result<T, Failure> {
    let file = backup::create(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::AlreadyExists => (FAILED, format!("{} is there already", path.display())),
        _ => (FAILED, format!("{} cannot be made: {cause}", path.display())),
    })?;
    let filled = fill(&file).and_then(|done| {
        file.sync_all().map_err(|cause| (FAILED, format!("{}: {cause}", path.display())))?;
        Ok(done)
    });
    if filled.is_err() {
        fs::remove_file(path).ok();
    }
    filled
}

fn back_up(path: &Path, access: &TokenAccess) -> Result<String, Failure> {
    let state = access.options.state();
    let asks = access.url.is_some() || access.token_file.is_some();
    let seq = with_new_file(path, |file| {
        let from_folder = !asks && state.join("pileus.db").exists() && copy_folder(file, access)?;
        if !from_folder {
            download(file, access)?;
        }
        backup::check(path, path).map_err(|error| (FAILED, error.to_string()))
    })?;
    Ok(format!("backup {} made, up to event {seq}", path.display()))
}

/// `false`: a server holds the folder.
fn copy_folder(file: &File, access: &TokenAccess) -> Result<bool, Failure> {
    let store = crate::store_of(&access.options).map_err(|report| (CONFIG, report.render(false)))?;
    let state = access.options.state().to_path_buf();
    runtime()?.block_on(async {
        let running = match pileus_engine::open(state, store, Arc::new(SystemClock)).await {
            Ok(running) => running,
            Err(StartError::Store(OpenError::InUse { .. })) => return Ok(false),
            Err(error) => return Err((UNAVAILABLE, error.to_string())),
        };
        let copied = async {
            let copy =
                running.engine().backup().await.map_err(|refusal| (UNAVAILABLE, refusal.to_string()))?;
            let mut at = 0;
            loop {
                let part = (copy.read)(at).await.map_err(|cause| (UNAVAILABLE, cause.to_string()))?;
                if part.is_empty() {
                    return Ok(true);
                }
                file.write_all_at(&part, at)
                    .map_err(|cause| (FAILED, format!("backup not written: {cause}")))?;
                at += part.len() as u64;
            }
        };
        let copied = copied.await;
        running.stop_with(true).await;
        copied
    })
}

fn download(file: &File, access: &TokenAccess) -> Result<(), Failure> {
    let (target, secret) =
        api_server::find(&access.options, access.url.as_deref(), access.token_file.as_deref())?;
    let project = utf8_percent_encode(&access.own_project, NON_ALPHANUMERIC);
    let path = format!("/{project}/service/backup");
    let answer = runtime()?.block_on(client::download(&target, &path, &secret, file));
    match answer.map_err(|error| (UNAVAILABLE, error.to_string()))? {
        None => Ok(()),
        Some((status, body)) => {
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let said = json.as_object().and_then(|it| it.values().next()?.get("message")?.as_str());
            Err((FAILED, said.unwrap_or(&format!("the server answered {status}")).to_owned()))
        }
    }
}

fn restore(path: &Path, state: &Path) -> Result<String, Failure> {
    let seq = backup::restore(path, state).map_err(|error| failure(&error, CONFIG))?;
    Ok(format!("state restored into {}, up to event {seq}", state.display()))
}

fn failure(error: &RestoreError, of_file: u8) -> Failure {
    let code = match error {
        RestoreError::Folder(OpenError::Open { .. } | OpenError::Lost { .. }) => CONFIG,
        RestoreError::Folder(_) => UNAVAILABLE,
        RestoreError::NotEmpty(_) => FAILED,
        RestoreError::File(_) => of_file,
    };
    let help = match error {
        RestoreError::NotEmpty(_) => {
            "\nhelp: move what is in the folder away, or name another folder with --state"
        }
        _ => "",
    };
    (code, format!("{error}{help}"))
}

fn compact(asked: &Compact) -> Result<String, Failure> {
    let mistake = |report: crate::diagnostic::Report| (CONFIG, report.render(false));
    let store = crate::store_of(&asked.options).map_err(mistake)?;
    let settings = crate::scheduler_of(&asked.options).map_err(mistake)?;
    let days = asked.keep_days.unwrap_or(settings.history_keep_days);
    let mib = asked.keep_mib.unwrap_or(settings.history_keep_mib);
    let state = asked.options.state().to_path_buf();
    if !state.join("pileus.db").exists() {
        return Err((UNAVAILABLE, format!("there is no state in {}", state.display())));
    }
    let done = runtime()?.block_on(async {
        let running = pileus_engine::open(state, store, Arc::new(SystemClock)).await;
        let running = running.map_err(|error| (UNAVAILABLE, error.to_string()))?;
        let compacted = running.compact(days, mib).await;
        running.stop_with(true).await;
        compacted.map_err(|error| (UNAVAILABLE, error.to_string()))
    })?;
    Ok(format!("{done} events deleted"))
}

fn export(path: &Path, state: &Path) -> Result<String, Failure> {
    let unavailable = |error: RestoreError| (UNAVAILABLE, error.to_string());
    if path == Path::new("-") {
        let mut out = BufWriter::new(io::stdout().lock());
        let count = backup::export_events(state, &mut out).map_err(unavailable)?;
        // A closed pipe means that the reader has seen enough.
        out.flush().ok();
        return Ok(format!("{count} events exported"));
    }
    let count = with_new_file(path, |file| {
        let mut out = BufWriter::new(file);
        let count = backup::export_events(state, &mut out).map_err(unavailable)?;
        out.flush().map_err(|cause| (FAILED, format!("{}: {cause}", path.display())))?;
        Ok(count)
    })?;
    Ok(format!("{count} events exported to {}", path.display()))
}
