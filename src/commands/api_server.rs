//! Server that a command calls: the one that the URL names, else the one that the files describe.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use pileus_sdk::Mount;

use super::{CONFIG, UNAVAILABLE, explain};
use crate::{
    cli::Options,
    client::Target,
    diagnostic::Report,
    files::Files,
    paste::{self, AppId, Listen, Plan, ServerPlan, Shape},
};

/// Exit code of a command, and why.
pub type Failure = (u8, String);

/// Returns the server that answers the API of `/v2`, and an administrator's token for it. `url` wins over the
/// files.
pub fn find(
    options: &Options,
    url: Option<&str>,
    token_file: Option<&Path>,
) -> Result<(Target, String), Failure> {
    let token = || explain::token(token_file, options.state()).map_err(|text| (UNAVAILABLE, text));
    match url {
        Some(url) => Ok((by_url(url)?, token()?)),
        None => {
            // A file that was named and is not there is the first thing to say.
            let plan = plan(options)?;
            let token = token()?;
            Ok((described(&plan)?, token))
        }
    }
}

/// Returns the server of a URL.
pub fn by_url(url: &str) -> Result<Target, Failure> {
    Target::from_url(url).map_err(|error| (UNAVAILABLE, error.to_string()))
}

/// The pipelines of the files. Mistakes elsewhere in them are no obstacle: the server that runs may have been
/// started before they were made.
fn plan(options: &Options) -> Result<Plan, Failure> {
    let mut report = Report::default();
    let files = Files::read(options, &mut report);
    let Some(paste) = files.paste else { return Err((CONFIG, report.render(false))) };
    Ok(paste::check(&paste, &paste::Catalog::COMPILED_IN, paste::Strategy::UNKNOWN, &mut report))
}

/// Returns the server of the plan that mounts the API, `[server.api]` before others.
pub fn described(plan: &Plan) -> Result<Target, Failure> {
    let mounts = |server: &ServerPlan| mount(plan, server.app);
    let named = plan.servers.iter().filter(|server| server.name == "api");
    let others = plan.servers.iter().filter(|server| server.name != "api");
    let found = named.chain(others).find_map(|server| Some((server, mounts(server)?)));
    let (server, mount) = found.ok_or_else(|| {
        let help = "`pileus check` shows what is wrong with them; name the server with --url";
        (UNAVAILABLE, format!("the files describe no server with the API of `/v2`\nhelp: {help}"))
    })?;
    target(server, &mount).map_err(|problem| {
        let text = format!("[server.{}] listens on `{}`: {problem}", server.name, server.settings.listen);
        (UNAVAILABLE, format!("{text}\nhelp: name the server with --url"))
    })
}

/// Returns `true` if this server of the plan mounts the API.
pub fn mounts_api(plan: &Plan, server: &ServerPlan) -> bool {
    mount(plan, server.app).is_some()
}

/// Returns the server of a URL. If the files describe it, their mount and their certificate hold.
pub fn called_by(url: &str, plan: &Plan) -> Result<Target, Failure> {
    let named = by_url(url)?;
    let described = described(plan).ok().filter(|target| target.to_string() == named.to_string());
    Ok(described.unwrap_or(named))
}

fn target(server: &ServerPlan, mount: &str) -> Result<Target, &'static str> {
    let settings = &server.settings;
    let certificate = settings.tls.as_ref().map(|tls| tls.certificate.as_path());
    match &settings.listen {
        Listen::Tcp(address) if address.port() == 0 => Err("the port is chosen at the start"),
        Listen::Tcp(address) => {
            if settings.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()) {
                return Err("it wants a client certificate");
            }
            let authority = reachable(*address).to_string();
            Target::tcp(&authority, certificate, mount).ok_or("the address cannot be called")
        }
        Listen::Unix(path) => Ok(Target::unix(path, mount)),
        Listen::Systemd(_) => Err("systemd alone knows the address"),
    }
}

/// An address that is every address of this host is called by its loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Returns the path at which an app answers the API; `None`: it does not. Mounts of a host by name are passed
/// over: a command does not call the server by it.
fn mount(plan: &Plan, app: AppId) -> Option<String> {
    // Every app stands behind those that it uses: this ends.
    match &plan.apps.get(app)?.shape {
        Shape::App { kind, section } => ((kind.mount)(section) == Some(Mount::Tenant)).then(String::new),
        Shape::Filters { app, .. } => mount(plan, *app),
        Shape::Urlmap(mounts) => mounts.iter().filter(|it| it.host.is_none()).find_map(|it| {
            let below = mount(plan, it.app)?;
            Some(format!("{}{below}", it.path.trim_end_matches("/+")))
        }),
        Shape::Cascade { apps, .. } => apps.iter().find_map(|(app, _)| mount(plan, *app)),
        Shape::Broken => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target_of(text: &str) -> Result<Target, String> {
        let environment = |_: &str| None;
        let mut report = Report::default();
        let paste = paste::Files::from_text("p", text, Path::new("/etc/pileus"), &environment, &mut report);
        let paste = paste.expect("a file that can be read");
        let plan = paste::check(&paste, &paste::Catalog::COMPILED_IN, paste::Strategy::UNKNOWN, &mut report);
        described(&plan).map_err(|(_, text)| text)
    }

    #[test]
    fn the_api_is_found_where_the_files_mount_it() {
        let shipped = |listen: &str| paste::SHIPPED.replace("\"127.0.0.1:8774\"", listen);
        let moved = |mount: &str| shipped("\"127.0.0.1:1\"").replace("\"/v2/+\" =", &format!("{mount:?} ="));
        let bare = |app: &str| format!("[server.x]\nlisten = \"127.0.0.1:1\"\napp = {app:?}\n");
        let router = bare("it") + "[app.it]\nfactory = \"router\"\nroutes = \"tenant\"";
        let tls = |more: &str| {
            shipped(&format!("\"127.0.0.1:1\"\ntls = {{ certificate = \"a.pem\", key = \"a.key\"{more} }}"))
        };
        let cases = [
            (shipped("\"127.0.0.1:8774\""), Ok(("http://127.0.0.1:8774", "/v2"))),
            (shipped("\"127.0.0.2:9000\""), Ok(("http://127.0.0.2:9000", "/v2"))),
            (shipped("\"[::1]:9000\""), Ok(("http://[::1]:9000", "/v2"))),
            (shipped("\"0.0.0.0:9000\""), Ok(("http://127.0.0.1:9000", "/v2"))),
            (shipped("\"[::]:9000\""), Ok(("http://[::1]:9000", "/v2"))),
            (shipped("\"unix:api.sock\""), Ok(("unix:/etc/pileus/api.sock", "/v2"))),
            (tls(""), Ok(("https://127.0.0.1:1", "/v2"))),
            (moved("/compute/v2"), Ok(("http://127.0.0.1:1", "/compute/v2"))),
            (moved("/v2/+"), Ok(("http://127.0.0.1:1", "/v2"))),
            // Another name than `api`, and no prefix.
            (router, Ok(("http://127.0.0.1:1", ""))),
            (shipped("\"127.0.0.1:0\""), Err("[server.api] listens on `127.0.0.1:0`: the port is chosen")),
            (shipped("\"systemd:api\""), Err("[server.api] listens on `systemd:api`: systemd alone knows")),
            (tls(", client_ca = \"c\""), Err("it wants a client certificate")),
            (bare("metrics"), Err("the files describe no server")),
            (bare("no such app"), Err("the files describe no server")),
        ];
        for (text, expected) in cases {
            let found = target_of(&text);
            match (&found, expected) {
                (Ok(target), Ok((shown, mount))) => {
                    assert_eq!((target.to_string().as_str(), target.mount()), (shown, mount), "{text}");
                }
                (Err(problem), Err(word)) => {
                    assert!(problem.contains(word) && problem.contains("--url"), "{problem}: {text}");
                }
                _ => panic!("{found:?}: {text}"),
            }
        }
    }
}
