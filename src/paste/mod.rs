//! `api-paste.toml`: Paste Deploy's model in TOML. Parse, check, build; every mistake with its place.
//!
//! ```text
//! Files::read ──► check ──► Plan ──► build ──► Vec<BuiltServer>     (serve.rs starts them)
//!   parse           │         └────► describe: `pileus pipeline`
//!                   └ names, inheritance, order of filters, authentication
//! ```
//!
//! | section | makes | keys |
//! | --- | --- | --- |
//! | `[default]` | values for `${name}` | any |
//! | `[server.NAME]` | a port | see [`server`] |
//! | `[composite.NAME]` | an app made of apps | `factory = "urlmap"`, `"auth_strategy"` or `"cascade"` |
//! | `[pipeline.NAME]` | filters and an app | `pipeline = ["outermost", …, "app"]` |
//! | `[filter.NAME]` | a filter | `factory`, and what that takes |
//! | `[filter-app.NAME]` | a filter and the app below it | the same, and `next = "app"` |
//! | `[app.NAME]` | an app | `factory`, and what that takes |
//!
//! **What a name means.** `factory` names compiled-in code, of the lists in [`crate::pipeline`]. A
//! section with neither `factory` nor `use` is made by the factory of its own name. A name for
//! which the file has no section means compiled-in code with its defaults: `trace` in a pipeline
//! needs no `[filter.trace]`, nor `versions` an `[app.versions]`. Besides, the name of a mount
//! (`tenant`, `cloud_status`, `cloud_admin`) is an app: the router with that mount's routes. A
//! section always comes before compiled-in code. Apps of all kinds share one set of names, filters
//! have another, and names mean what they mean in the file in which they are written.
//!
//! **Inheritance.** `use = "name"` takes the settings of another section of the same kind;
//! `use = "config:site.toml#filter.limit"` takes them of another file, whose path is relative to
//! the file that says so. An outer key replaces an inner one. A `filter-app` uses filters. A filter
//! or an app with `filter-with = "name"` has that filter around it.
//!
//! **Globals.** `set = { name = … }` gives a value to what is loaded through a section, and `get = { setting =
//! "name" }` takes it there, or from `[default]`. See [`globals`].
//!
//! **Layers.** `base = "shipped"`, or the path of a file, at the top, and `[[change]]` by name: insert after,
//! replace, remove, set. See [`layers`].
//!
//! **One or two of a thing.** A filter in two pipelines is two filters, each with counters of its
//! own. A pipeline that is reached by two ways is one.
//!
//! Where Paste is silent or crashes (unknown keys, cycles, sections that nobody uses, filters in an
//! impossible order), this says so like a compiler. Not taken over: `egg:` and `call:`,
//! since code is compiled in.
//! Source: Paste Deploy, `paste/deploy/loadwsgi.py`.

mod build;
mod cascade;
mod check;
mod composite;
mod de;
mod describe;
mod flow;
mod globals;
mod interpolate;
pub mod layers;
pub mod listen;
mod names;
mod parse;
mod plan;
mod resolve;
mod section;
pub mod server;
#[cfg(test)]
mod tests;
mod urlmap;
mod value;

/// The file as it is shipped: what holds where the working folder has none.
pub static SHIPPED: &str = include_str!("../../api-paste.toml");

pub use build::{BuiltServer, build};
pub use check::{Catalog, Strategy, check};
pub(crate) use describe::short;
pub use describe::{describe, to_dot, to_json, way_to_json};
pub use flow::open_servers;
pub use interpolate::Environment;
pub use listen::Listen;
pub(crate) use parse::whole_table;
pub use parse::{Files, Group};
pub use plan::{AppId, AppPlan, End, FilterPlan, Mounted, Plan, ServerPlan, Shape, Way};
/// Whether a urlmap may have this key.
pub(crate) fn is_mount(key: &str) -> bool {
    urlmap::key(key).is_ok()
}

pub use section::Section;
pub use server::{ServerSettings, TlsSettings};
pub use value::{Kind, Setting, Table, Value, in_order};
