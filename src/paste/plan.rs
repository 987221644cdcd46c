//! What `api-paste.toml` means: servers, apps and filters, all names found. Made by *check*, read
//! by *build*, `pileus pipeline` and `pileus explain`.

use pileus_sdk::Mount;

use super::{Listen, Section, server::ServerSettings, urlmap};
use crate::{
    diagnostic::{Diagnostic, Place},
    pipeline::{AppKind, FilterKind},
};

/// Index into [`Plan::apps`].
pub type AppId = usize;

/// All of it.
#[derive(Debug, Default)]
pub struct Plan {
    /// In the order of the file.
    pub servers: Vec<ServerPlan>,
    /// Every app stands behind those that it uses. One that is named twice is here once: two ways
    /// to one pipeline lead through the same filters, with the same counters.
    pub apps: Vec<AppPlan>,
}

/// A `[server.NAME]`.
#[derive(Debug)]
pub struct ServerPlan {
    /// `api`.
    pub name: String,
    /// Addresses and limits.
    pub settings: ServerSettings,
    /// As it was written.
    pub section: Section,
    /// What answers.
    pub app: AppId,
    /// Where that is said.
    pub app_place: Place,
}

impl ServerPlan {
    /// Returns the error of a listener that cannot be opened, at the line that names it.
    pub fn cannot_listen(&self, error: &std::io::Error) -> Diagnostic {
        let listen = &self.settings.listen;
        let help = match listen {
            Listen::Tcp(_) => "another program has it, or it is no address of this host: change `listen`",
            Listen::Unix(_) => {
                "another program has it, or its folder is missing or not this user's: change `listen`"
            }
            Listen::Systemd(_) => "name it by `FileDescriptorName=` in a .socket unit, or change `listen`",
        };
        self.section.wrong("listen", format!("cannot listen on {listen}: {error}")).help(help)
    }
}

/// Something that answers requests.
#[derive(Debug)]
pub struct AppPlan {
    /// `pipeline.admin`; of compiled-in apps without a section the bare name.
    pub name: String,
    /// Its header's place; of compiled-in apps without a section, where it is named.
    pub place: Place,
    /// What it is.
    pub shape: Shape,
}

/// What an app is.
#[derive(Debug)]
pub enum Shape {
    /// Compiled-in code.
    App {
        /// Which.
        kind: AppKind,
        /// Its settings.
        section: Section,
    },
    /// Filters, the first one outermost, and an app below them.
    Filters {
        /// The strategy that chose this list, of a composite `auth_strategy`.
        strategy: Option<String>,
        /// From the outside in.
        filters: Vec<FilterPlan>,
        /// What stands below.
        app: AppId,
        /// Where it is named.
        app_place: Place,
    },
    /// Apps by the start of the path.
    Urlmap(Vec<Mounted>),
    /// Apps in turn, until one answers with a status that is not in `catch`.
    Cascade {
        /// The apps and where each is named; never empty.
        apps: Vec<(AppId, Place)>,
        /// Statuses that let the next one try.
        catch: Vec<u16>,
    },
    /// It has mistakes, which were reported.
    Broken,
}

/// One line of a urlmap.
#[derive(Debug)]
pub struct Mounted {
    /// `x.org` or `x.org:8080`, where it holds for that host alone.
    pub host: Option<String>,
    /// Without slashes at its end: `/` is the empty text.
    pub path: String,
    /// What answers below it.
    pub app: AppId,
    /// Where it is named.
    pub place: Place,
}

impl Mounted {
    /// As one would write it.
    pub fn shown(&self) -> String {
        let host = self.host.as_ref().map(|host| format!("http://{host}")).unwrap_or_default();
        host + if self.path.is_empty() { "/" } else { &self.path }
    }
}

/// A filter in its place in a pipeline.
#[derive(Debug)]
pub struct FilterPlan {
    /// `filter.ratelimit`, or the bare name of compiled-in code without a section.
    pub name: String,
    /// Which; `None` where mistakes were reported.
    pub kind: Option<FilterKind>,
    /// Its settings.
    pub section: Section,
    /// Where the pipeline names it.
    pub place: Place,
    /// Whether the section has mistakes that were reported, so that it cannot be built.
    pub broken: bool,
}

/// The routes at the end of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Those of one router.
    Router(Mount),
    /// None, or those of several routers.
    None,
    /// Not known, because of mistakes that were reported.
    Broken,
}

/// The way of a request, as far as its path decides.
#[derive(Debug)]
pub struct Way<'a> {
    /// How many bytes of the path the mounts have taken.
    pub mounted: usize,
    /// The filters, from the outside in.
    pub filters: Vec<&'a FilterPlan>,
    /// The apps on the way; the last one answers, where it is no composite.
    pub apps: Vec<&'a AppPlan>,
    /// Which key each urlmap on the way has chosen.
    pub takes: Vec<String>,
}

impl Plan {
    /// The way of a request with this path through a server: what `pileus explain` shows. Ends at a
    /// urlmap that has nothing for the path, and at a cascade, which asks one app after the other.
    pub fn way(&self, server: &ServerPlan, host: Option<&(String, u16)>, path: &str) -> Way<'_> {
        let mut way = Way { mounted: 0, filters: Vec::new(), apps: Vec::new(), takes: Vec::new() };
        let mut next = self.apps.get(server.app);
        while let Some(app) = next {
            way.apps.push(app);
            next = match &app.shape {
                Shape::Filters { filters, app, .. } => {
                    way.filters.extend(filters);
                    self.apps.get(*app)
                }
                Shape::Urlmap(mounts) => {
                    let taken = |mount: &Mounted| {
                        let fits = urlmap::fits(mount.host.as_deref(), host)?;
                        Some((fits, urlmap::taken(&mount.path, path, way.mounted)?))
                    };
                    let found = mounts.iter().filter_map(|mount| Some((taken(mount)?, mount)));
                    found.max_by_key(|(taken, mount)| (*taken, mount.path.ends_with("/+"))).and_then(
                        |((_, taken), mount)| {
                            way.mounted = taken;
                            way.takes.push(mount.shown());
                            self.apps.get(mount.app)
                        },
                    )
                }
                Shape::App { .. } | Shape::Cascade { .. } | Shape::Broken => None,
            };
        }
        way
    }

    /// The router at the end of an app: what its filters match routes with.
    pub fn end(&self, mut app: AppId) -> End {
        // Every app stands behind those that it uses: this goes down.
        while let Some(plan) = self.apps.get(app) {
            match &plan.shape {
                Shape::Filters { app: below, .. } => app = *below,
                Shape::App { kind, section } => {
                    return (kind.mount)(section).map_or(End::None, End::Router);
                }
                Shape::Urlmap(_) | Shape::Cascade { .. } => return End::None,
                Shape::Broken => return End::Broken,
            }
        }
        End::Broken
    }
}
