//! `pileus serve`: the last phase. Sockets first, then the engine, then connections are accepted.

use std::{io::Write, path::Path, pin::pin, sync::Arc, time::Duration};

use pileus_engine::{
    Death, OpenError, Running, StartError, SystemClock,
    drivers::local::{self, Confinement, Isolation},
};
use pileus_model::{Actor, Clock, Engine};
use pileus_sdk::{Host, host::Protection};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::MissedTickBehavior,
};
use tracing::{error, info, warn};

use super::{CONFIG, OK, SOFTWARE, UNAVAILABLE};
use crate::{
    Checked,
    cli::Options,
    diagnostic::Report,
    host::{Ask, ThisProcess},
    identity,
    kept::Kept,
    log_settings::LogSettings,
    logging::{self, FlushAtEnd},
    paste::Listen,
    reload::{LOOK_S, Reloader},
    serve::{self, Bound, Serving},
};

pub fn run(options: &Options) -> u8 {
    // Before there are threads.
    serve::systemd::receive();
    let mut report = Report::default();
    let settings = LogSettings::from_environment(&mut report);
    let checked = crate::check(options, &mut report);
    super::say(&report);
    let (Some(settings), Some(checked), 0) = (settings, checked, report.errors()) else { return CONFIG };
    let logs = checked.host.logs.clone();
    if let Err(error) = logging::start(settings, &checked.host) {
        return fail(SOFTWARE, &error);
    }
    let _flush = FlushAtEnd(logs);
    raise_file_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(SOFTWARE, &format!("no threads can be started: {error}")),
    };
    let code = runtime.block_on(start(checked, options));
    // Nothing that still runs here is waited for: what had to be durable is.
    runtime.shutdown_background();
    code
}

/// Every connection is a file, and the usual limit is meant for programs that have few: takes as many
/// as this user may have.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        warn!(%error, "the limit of open files stays as it is");
    }
}

fn fail(code: u8, text: &str) -> u8 {
    super::tell(format_args!("error: {text}"));
    code
}

/// Protections against jobs, as they are reported.
pub fn protections(confinement: &Confinement) -> Vec<Protection> {
    let reported = |it: local::Protection| Protection {
        name: it.name.to_owned(),
        in_force: it.how.is_ok(),
        how: it.how.unwrap_or_else(str::to_owned),
    };
    confinement.protections().into_iter().map(reported).collect()
}

async fn start(checked: Checked, options: &Options) -> u8 {
    checked.host.set_protections(protections(&checked.confinement));
    let missing = checked.confinement.missing();
    missing.iter().for_each(|problem| warn!(problem, "protection against jobs missing"));
    if !missing.is_empty() && checked.confinement.settings.isolation == Isolation::Required {
        return fail(CONFIG, &format!("[local] isolation = \"required\", and {}", missing.join("; ")));
    }
    let mut bound = Vec::new();
    for server in &checked.plan.servers {
        match serve::bind(&server.name, &server.settings) {
            Ok(listener) => bound.push(listener),
            Err(error) => {
                let mut report = Report::default();
                report.push(server.cannot_listen(&error));
                super::say(&report);
                return UNAVAILABLE;
            }
        }
    }
    // Before the first signal can come: one that comes while the engine starts is not lost.
    let Ok(mut stop) = Stop::new() else { return fail(SOFTWARE, "signals cannot be heard") };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let open = bound.iter().zip(&checked.open).filter(|(_, open)| **open);
    let closed_ports = open.filter_map(|(listener, _)| listener.address.port()).collect();
    let running = match checked.start_engine(options.state(), clock.clone(), closed_ports).await {
        Ok(running) => running,
        Err(error) => return fail(code(&error), &error.to_string()),
    };
    let engine: Arc<dyn Engine> = running.engine();
    let token = match identity::ensure_admin(&*engine, options.state(), clock.now()).await {
        Ok(path) => path,
        Err(error) => {
            running.stop().await;
            return fail(UNAVAILABLE, &error.to_string());
        }
    };
    let kept = Kept::default();
    let apps = match checked.build(engine.clone(), clock.clone(), &kept) {
        Ok(apps) => apps,
        Err(report) => {
            running.stop().await;
            super::say(&report);
            return CONFIG;
        }
    };
    if let Err(error) = checked.host.logs.start() {
        running.stop().await;
        return fail(CONFIG, &format!("{error}. Change `file` of the filter `trace` in api-paste.toml."));
    }
    let url = |listener: &Bound| {
        let url = match &listener.address {
            Listen::Tcp(address) if listener.settings().tls.is_some() => format!("https://{address}"),
            Listen::Tcp(address) => format!("http://{address}"),
            other => other.to_string(),
        };
        (listener.name.clone(), url)
    };
    let addresses: Vec<(String, String)> = bound.iter().map(url).collect();
    let host = checked.host.clone();
    let reloader = Reloader::new(checked, engine, clock, kept);
    // Before the first request can come: one that asks for a reload is heard, if a little later.
    let asked = host.attach_reload();
    let mut serving = serve::start(bound.into_iter().zip(apps).collect());
    banner(&addresses, options.state(), &token);
    serve::systemd::ready();
    let died = until_stopped(&mut stop, reloader, asked, &host, &running, &mut serving).await;
    serve::systemd::stopping();
    if let Some((code, why)) = died {
        // As after a kill: what was acknowledged is durable, and the next start takes the VMs over. An orderly
        // stop would wait for a part that is not there any more.
        error!(exit = code, error = why, "the service ends");
        return code;
    }
    info!("stopping: requests in flight finish first; a second signal stops at once");
    let orderly = async {
        serving.stop().await;
        running.stop_with(host.quick_shutdown()).await;
    };
    tokio::select! {
        () = orderly => info!("stopped"),
        () = stop.told(&host) => warn!("stopped at once; the next start finds what was left"),
    }
    OK
}

/// Reloads whenever it is asked to, until the service is told to stop, or a part of it has ended: then the
/// exit code and the reason.
async fn until_stopped(
    stop: &mut Stop,
    mut reloader: Reloader,
    mut asked: mpsc::Receiver<Ask>,
    host: &ThisProcess,
    running: &Running,
    serving: &mut Serving,
) -> Option<(u8, String)> {
    let mut looks = tokio::time::interval(Duration::from_secs(LOOK_S));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let nobody = || Actor { user: "[reload]".into(), ..Actor::default() };
    let mut died = pin!(running.died());
    loop {
        tokio::select! {
            death = &mut died => return Some((death_code(&death), death.to_string())),
            why = serving.died() => return Some((SOFTWARE, why)),
            signal = stop.heard(host) => match signal {
                Heard::Stop => return None,
                Heard::Hangup => {
                    // Also where the reload fails: the program that rotates logs cannot know of it.
                    host.logs.reopen();
                    reloader.reload("SIGHUP", nobody(), serving).await;
                }
            },
            Some((actor, say)) = asked.recv() => {
                let reload = reloader.reload("a request", actor, serving).await;
                // Whoever asked may have hung up.
                say.send(reload).ok();
            }
            _ = looks.tick() => {
                if reloader.changed().await {
                    reloader.reload("a changed file", nobody(), serving).await;
                }
            }
        }
    }
}

/// What a deployer has to change in a file is a matter of configuration; what has to be free or
/// repaired first is not there.
fn code(error: &StartError) -> u8 {
    match error {
        StartError::Cloud { .. } | StartError::File(_) => CONFIG,
        StartError::Store(
            OpenError::Unknown { .. }
            | OpenError::Newer { .. }
            | OpenError::Lost { .. }
            | OpenError::Open { .. },
        ) => CONFIG,
        StartError::Store(_) | StartError::Driver { .. } | StartError::Write { .. } => UNAVAILABLE,
    }
}

fn death_code(death: &Death) -> u8 {
    match death {
        Death::Ended { .. } => SOFTWARE,
        Death::StateTaken(_) => UNAVAILABLE,
    }
}

/// What a signal asks for.
enum Heard {
    Stop,
    Hangup,
}

/// SIGTERM and Ctrl-C; SIGHUP, with which services read their files again; SIGUSR2, which turns the flag
/// of quick shutdown over, as it always did.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    toggle: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            toggle: signal(SignalKind::user_defined2())?,
        })
    }

    async fn heard(&mut self, host: &dyn Host) -> Heard {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Heard::Stop,
                _ = self.interrupt.recv() => return Heard::Stop,
                Some(()) = self.hangup.recv() => return Heard::Hangup,
                Some(()) = self.toggle.recv() => drop(host.set_quick_shutdown(None)),
            }
        }
    }

    /// Nothing is reloaded any more.
    async fn told(&mut self, host: &ThisProcess) {
        while let Heard::Hangup = self.heard(host).await {
            host.logs.reopen();
        }
    }
}

/// What a newcomer needs: where it listens, where its state lies, and a line to paste. The token
/// itself stays in its file: what is printed here may end in a log.
fn banner(addresses: &[(String, String)], state: &Path, token: &Path) {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let (state, token) = (absolute(state), absolute(token));
    let mut text = format!("Pileus {}\n\n", env!("CARGO_PKG_VERSION"));
    for (name, address) in addresses {
        text += &format!("  {name:<6} {address}\n");
    }
    text += &format!("  {:<6} {}\n", "state", state.display());
    text += &format!("  {:<6} {} (the administrator's)\n", "token", token.display());
    if let Some((_, api)) = addresses.iter().find(|(name, _)| name == "api") {
        let quote = |text: &str| text.replace('\'', r"'\''");
        let quoted = quote(&token.display().to_string());
        let api = match api.strip_prefix("unix:") {
            Some(path) => format!("--unix-socket '{}' http://localhost", quote(path)),
            None => api.clone(),
        };
        text += &format!(
            "\nSubmit a job:\n\n  curl -s -H \"X-Auth-Token: $(cat '{quoted}')\" -H 'Content-Type: application/json' \
             {api}/v2/default/jobs -d '{{\"job\": {{\"command\": [\"sh\", \"-c\", \"echo hello from $HOSTNAME; \
             sleep 2\"], \"user\": \"ada\", \"vm_type\": \"small\", \"cpu_cores\": 1, \"memory_mib\": 128, \
             \"priority\": 0}}}}'\n"
        );
    }
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        error!(%error, "nobody reads where Pileus listens");
    }
}
