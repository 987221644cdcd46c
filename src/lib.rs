//! The roof of Pileus: puts the floors together, and knows every name.
//!
//! Phases have names and an order, for start and reload alike: **parse → check → build → start**.
//! Only *start* may spawn a task or open a socket; [`check`] is the first three, upon an engine that
//! is not there.

pub mod apps;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod config_file;
mod confinement;
pub mod convert;
pub mod diagnostic;
pub mod extensions;
pub mod file_kind;
pub mod files;
pub mod filters;
pub mod host;
pub mod identity;
pub mod kept;
pub mod limits;
pub mod log_settings;
pub mod logging;
pub mod metrics;
mod network;
pub mod paste;
pub mod pipeline;
pub mod policy;
pub mod reload;
pub mod router;
pub mod serve;
pub mod tls;
pub mod tokens;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use pileus_engine::{
    CredentialsConfig, DriverFactory, FileError, Running, SchedulerConfig, StartError, SystemClock,
    drivers::{
        Driver, DriverError,
        local::{Confinement, Local, LocalConfig},
    },
};
use pileus_model::{Clock, Engine, Idle, JobDefaults, ManualClock, Refusal};
use pileus_sdk::extension;

use crate::{
    cli::Options,
    config::{Config, Known},
    diagnostic::{Diagnostic, Place, Report, Source},
    extensions::Loaded,
    files::Files,
    host::ThisProcess,
    kept::Kept,
    paste::Plan,
    pipeline::{BuildDeps, Watched},
    policy::Policy,
    serve::Answering,
};

/// The three files, understood, and found to make a service.
#[derive(Debug)]
pub struct Checked {
    /// `pileus.toml`.
    pub config: Config,
    /// Its `[scheduler]`.
    pub scheduler: SchedulerConfig,
    /// Its `[credentials]`.
    pub credentials: CredentialsConfig,
    /// Bounds of the jobs of the driver `local`: its `[local]`, and what has to be kept from them.
    pub confinement: Confinement,
    /// Its `[job_defaults]`.
    pub job_defaults: Arc<JobDefaults>,
    /// `api-paste.toml`.
    pub plan: Plan,
    /// The rules: of the files, and of the code.
    pub policy: Arc<Policy>,
    /// The files that they were read from, in their order: `policy.json`, then those of its folders.
    pub policy_files: Vec<Arc<Source>>,
    /// The extensions that were selected, built upon an engine that is not there.
    pub extensions: Loaded,
    /// The process that this makes, as extensions see it.
    pub host: Arc<ThisProcess>,
    /// The options, with the files that were found in the working folder: a reload demands them.
    pub options: Options,
    /// All files that were read, or would have been, if they were there.
    pub paths: Vec<PathBuf>,
    /// `true` for each server of the plan with an app that does not authenticate its callers.
    pub open: Vec<bool>,
    /// Of each server of the plan that speaks TLS.
    pub keys: Vec<Option<serve::Keys>>,
}

/// Parse, check, build: everything that can be wrong, in one report. What comes back must not be
/// started while the report has errors.
pub fn check(options: &Options, report: &mut Report) -> Option<Checked> {
    let files = Files::read(options, report);
    let mut options = files.pinned(options);
    let mut paths = files.paths(&options);
    let aliases = extensions::aliases();
    let known = known(&aliases);
    // One file that cannot be understood does not hide what is wrong with the others.
    let config = files
        .config
        .as_ref()
        .and_then(|source| Config::from_text(&source.name, &source.text, &files.folder, &known, report));
    let scheduler = config.as_ref().and_then(|config| report.take(config.scheduler::<SchedulerConfig>()));
    let credentials = config.as_ref().and_then(|config| credentials(config, report));
    let job_defaults = config.as_ref().and_then(|config| job_defaults(config, report));
    let strategy = config.as_ref().map_or(paste::Strategy::UNKNOWN, |config| paste::Strategy {
        name: &config.auth_strategy.value,
        place: config.auth_strategy.place.as_ref(),
        known: true,
    });
    let catalog = &paste::Catalog::COMPILED_IN;
    let plan = files.paste.as_ref().map(|paste| paste::check(paste, catalog, strategy, report));
    if let Some(config) = &config {
        check_lists(config, report);
        paths.extend(config.lists().map(Path::to_path_buf));
    }
    let job_defaults = Arc::new(job_defaults.unwrap_or_default());
    for server in plan.iter().flat_map(|plan| &plan.servers) {
        if let paste::Listen::Unix(path) = &server.settings.listen
            && let Some(problem) = serve::open_folder(path)
        {
            let text = format!("{problem}, and may replace the socket");
            let help = "name a folder that only root and the server's user may write";
            let warning = server.section.wrong("listen", text).help(help);
            report.push(Diagnostic { warning: true, ..warning });
        }
    }
    let keys = plan.iter().flat_map(|plan| &plan.servers).map(|server| {
        let tls = server.settings.tls.as_ref()?;
        paths.extend(tls.paths().cloned());
        let keys = serve::Keys::read(tls, server.settings.http2);
        if keys.is_ok() {
            let warnings = serve::tls_warnings(tls, SystemClock.now()).into_iter();
            let warnings = warnings.map(|warning| warning.at(&server.section, Some("tls")));
            report.extend(warnings.map(|warning| Diagnostic { warning: true, ..warning }));
        }
        report.take(keys.map_err(|error| error.at(&server.section, Some("tls"))))
    });
    let keys: Vec<Option<serve::Keys>> = keys.collect();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let keep_vms = scheduler.as_ref().is_some_and(|scheduler| scheduler.keep_vms_on_stop);
    let settings = config.as_ref().map(|config| report.take(config.policy().parse()).unwrap_or_default());
    let settings = settings.unwrap_or_default();
    let folders = files.policy.iter().flat_map(|main| policy::folders(main, &settings, &files.folder));
    let folders: Vec<PathBuf> = folders.collect();
    let read_before = options.policy_d;
    options.policy_d =
        settings.policy_dirs.is_none() && folders.iter().any(|folder| config_file::is_there(folder));
    paths.extend(folders);
    let policy_files = files
        .policy
        .map(|main| policy::collect(main, &settings, &files.folder, read_before, report))
        .unwrap_or_default();
    let host = Arc::new(ThisProcess::new(&options, keep_vms));
    let mut policy = assemble_policy(&policy_files, &settings, &job_defaults, host.clone(), report);
    if let Some(config) = &config {
        paths.extend(settings.tls_files(&config.folder).paths().map(Path::to_path_buf));
        report.take(policy.set_up_tls(config.policy(), &config.folder));
    }
    let (config, plan) = (config?, plan?);
    if policy_files.is_empty() {
        return None;
    }
    let policy = Arc::new(policy);
    let loaded = load(&config, &job_defaults, Arc::new(Idle), clock.clone(), host.clone());
    let extensions = match loaded {
        Ok(loaded) => loaded,
        Err(clashes) => {
            report.extend(clashes);
            return None;
        }
    };
    report.extend(extensions.warnings.iter().cloned());
    let deps = BuildDeps {
        clock,
        engine: Arc::new(Idle),
        policy: policy.clone(),
        routers: extensions.routers.clone(),
        kept: Kept::default(),
        watched: Watched::default(),
        host: host.clone(),
    };
    paste::build(&plan, &deps, report);
    paths.extend(deps.watched.paths());
    report.extend(deps.watched.warnings());
    let (scheduler, credentials) = (scheduler?, credentials?);
    let confinement = confinement::confinement(&config, &credentials, &paths, &options, report)?;
    let open = paste::open_servers(&plan, catalog);
    Some(Checked {
        config,
        scheduler,
        credentials,
        confinement,
        job_defaults,
        plan,
        policy,
        policy_files,
        extensions,
        host,
        options,
        paths,
        open,
        keys,
    })
}

/// The words that `pileus.toml` may say.
fn known<'a>(extensions: &'a [&'a str]) -> Known<'a> {
    let (drivers, stores) = (pileus_engine::drivers::DRIVERS, pileus_engine::STORES);
    Known { drivers, stores, extensions }
}

/// The store that `pileus.toml` names, for commands that work on a state folder. The default, where the file has
/// mistakes: the state may be older than they are. An error, where it cannot be read.
pub(crate) fn store_of(options: &Options) -> Result<String, Report> {
    let (aliases, mut report) = (extensions::aliases(), Report::default());
    let Some(source) = Files::read_config(options, &mut report) else { return Err(report) };
    let (name, text) = (&source.name, &source.text);
    let config = Config::from_text(name, text, Path::new(""), &known(&aliases), &mut report);
    let default = || pileus_engine::STORES.first().copied().unwrap_or_default().to_owned();
    Ok(config.map_or_else(default, |config| config.store.value))
}

/// `[scheduler]` of `pileus.toml`, for commands that work on a state folder.
pub(crate) fn scheduler_of(options: &Options) -> Result<SchedulerConfig, Report> {
    let (aliases, mut report) = (extensions::aliases(), Report::default());
    let Some(source) = Files::read_config(options, &mut report) else { return Err(report) };
    let (name, text) = (&source.name, &source.text);
    let config = Config::from_text(name, text, Path::new(""), &known(&aliases), &mut report);
    let scheduler = config.and_then(|config| report.take(config.scheduler::<SchedulerConfig>()));
    scheduler.ok_or(report)
}

/// The rules of these files alone, as `[policy]` of the settings has it.
pub(crate) fn policy_of(files: &[Arc<Source>], options: &Options, report: &mut Report) -> Policy {
    let aliases = extensions::aliases();
    let config = Files::read_config(options, report);
    let config =
        config.and_then(|it| Config::from_text(&it.name, &it.text, Path::new(""), &known(&aliases), report));
    let settings = config.and_then(|config| report.take(config.policy().parse())).unwrap_or_default();
    let host = Arc::new(ThisProcess::new(options, false));
    assemble_policy(files, &settings, &Arc::default(), host, report)
}

/// The rules of these files above the defaults of every route that is compiled in.
fn assemble_policy(
    files: &[Arc<Source>],
    settings: &policy::Settings,
    job_defaults: &Arc<JobDefaults>,
    host: Arc<ThisProcess>,
    report: &mut Report,
) -> Policy {
    let (engine, clock): (Arc<dyn Engine>, Arc<dyn Clock>) =
        (Arc::new(Idle), Arc::new(ManualClock::default()));
    let (job_defaults, about) = (job_defaults.clone(), Arc::default());
    let deps = extension::Deps { engine, clock, host, job_defaults, about };
    let (defaults, clashes) = policy::Defaults::of(&extensions::all_routes(&deps));
    report.extend(clashes);
    let (policy, problems) = Policy::assemble(files, &Arc::new(defaults), settings);
    report.extend(problems);
    policy
}

/// The files of aliases and limits: the engine reads them at its start, and a mistake in them is found
/// before.
fn check_lists(config: &Config, report: &mut Report) {
    let said = [&config.cloud_aliases, &config.user_limits];
    let [aliases, limits] = said.map(|said| said.as_ref().map(|said| said.value.as_path()));
    for (said, checked) in said.into_iter().zip(pileus_engine::check_files(aliases, limits)) {
        let Err(error) = checked else { continue };
        let place = match &error {
            FileError::Wrong { path, line, column, .. } => place_in(path, *line, *column),
            FileError::Unreadable { .. } | FileError::Senseless { .. } => None,
        };
        let place = place.or_else(|| said.as_ref().and_then(|said| said.place.clone()));
        let wrong = Diagnostic::error(error.to_string()).about(error.path());
        report.push(place.into_iter().fold(wrong, Diagnostic::at));
    }
}

/// A place in a file by line and column, which count from 1.
fn place_in(path: &Path, line: usize, column: usize) -> Option<Place> {
    let source = config_file::source(path).ok()?;
    let text = &source.text;
    let start: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let at = (start + column.saturating_sub(1)).min(text.len());
    Some(Place { source, span: at..at })
}

impl Checked {
    /// `true` if requests pass through the same stages with the same settings.
    pub fn has_pipelines_of(&self, other: &Self) -> bool {
        let strategy = |it: &Self| it.config.auth_strategy.value.clone();
        strategy(self) == strategy(other) && paste::to_json(&self.plan) == paste::to_json(&other.plan)
    }

    /// Starts the engine in a state folder, which it owns from here on.
    /// `closed_ports` are the ports of the servers that do not authenticate their callers.
    pub async fn start_engine(
        &self,
        state: &Path,
        clock: Arc<dyn Clock>,
        closed_ports: Vec<u16>,
    ) -> Result<Running, StartError> {
        let config = pileus_engine::Config {
            state_dir: state.to_path_buf(),
            store: self.config.store.value.clone(),
            worker_exe: worker_exe(),
            scheduler: self.scheduler.clone(),
            clouds: self.config.clouds.iter().map(|(name, spec)| (name.to_string(), spec.clone())).collect(),
            cloud_aliases: self.config.cloud_aliases.as_ref().map(|said| said.value.clone()),
            user_limits: self.config.user_limits.as_ref().map(|said| said.value.clone()),
            credentials: self.credentials.clone(),
            confinement: Confinement { closed_ports, ..self.confinement.clone() },
        };
        let drivers = drivers(&config, clock.clone());
        pileus_engine::start(config, clock, drivers).await
    }

    /// Builds what answers at each server, in the order of the plan, upon a real engine. What was
    /// checked can be built; where it cannot, the report says why.
    pub fn build(
        &self,
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        kept: &Kept,
    ) -> Result<Vec<Answering>, Report> {
        let mut report = Report::default();
        let loaded = load(&self.config, &self.job_defaults, engine.clone(), clock.clone(), self.host.clone())
            .map_err(|clashes| {
                let mut report = Report::default();
                report.extend(clashes);
                report
            })?;
        let (policy, routers) = (self.policy.clone(), loaded.routers);
        let (kept, watched, host) = (kept.clone(), Watched::default(), self.host.clone());
        let deps = BuildDeps { clock, engine, policy, routers, kept, watched, host };
        let built = paste::build(&self.plan, &deps, &mut report);
        if report.errors() > 0 || built.len() != self.plan.servers.len() {
            return Err(report);
        }
        let kinds = self.keys.iter().cloned().zip(self.open.iter().copied());
        let answering = |(server, (keys, open)): (paste::BuiltServer, _)| {
            let paste::BuiltServer { app, timed, counts, .. } = server;
            Answering { app, timed, counts, keys, open }
        };
        Ok(built.into_iter().zip(kinds).map(answering).collect())
    }
}

/// `[credentials]`, its paths from the file's folder.
fn credentials(config: &Config, report: &mut Report) -> Option<CredentialsConfig> {
    let section = config.credentials();
    let mut credentials = report.take(section.parse::<CredentialsConfig>())?;
    credentials.relative_to(&config.folder);
    if let Some((key, problem)) = credentials.problem() {
        report.push(section.wrong(&key, problem));
    }
    Some(credentials)
}

/// `[job_defaults]`: no job may be refused for what it did not say.
fn job_defaults(config: &Config, report: &mut Report) -> Option<JobDefaults> {
    let section = config.job_defaults();
    let defaults = report.take(section.parse::<JobDefaults>())?;
    if let Err(Refusal::Invalid { field, problem }) = pileus_engine::check_job_defaults(&defaults) {
        report.push(section.wrong(field, format!("`{field}` {problem}")));
    }
    Some(defaults)
}

fn load(
    config: &Config,
    job_defaults: &Arc<JobDefaults>,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    host: Arc<ThisProcess>,
) -> Result<Loaded, Vec<Diagnostic>> {
    let selected: Vec<_> = match &config.extensions {
        config::Extensions::Standard => extensions::EXTENSIONS.to_vec(),
        config::Extensions::Listed(aliases) => extensions::EXTENSIONS
            .iter()
            .filter(|extension| aliases.iter().any(|said| said.value == extension.alias))
            .copied()
            .collect(),
    };
    let job_defaults = job_defaults.clone();
    let about = Arc::new(extension::About { version: env!("CARGO_PKG_VERSION") });
    extensions::load(&selected, &extension::Deps { engine, clock, host, job_defaults, about })
}

/// Makes the driver of a name of `DRIVERS`.
fn drivers(config: &pileus_engine::Config, clock: Arc<dyn Clock>) -> Box<DriverFactory> {
    let local = LocalConfig {
        state_dir: config.state_dir.clone(),
        worker_exe: config.worker_exe.clone(),
        output_max: config.scheduler.job_output_max_kib.bytes(),
        worker_timeout: Duration::from_secs(config.scheduler.worker_timeout_s.get()),
        confinement: config.confinement.clone(),
    };
    Box::new(move |name, desk| match name {
        "local" => {
            let start = Local::start(local.clone(), desk, clock.clone());
            Box::pin(async move { Ok(start.await? as Arc<dyn Driver>) })
        }
        other => {
            let unknown = DriverError::Failed(format!("there is no driver `{other}`"));
            Box::pin(async move { Err(unknown) })
        }
    })
}

/// This very program: `local` runs it again as `pileus worker FOLDER`. By its inode, not its path:
/// an upgrade that replaces the file does not take the running service's workers away.
fn worker_exe() -> std::path::PathBuf {
    "/proc/self/exe".into()
}
