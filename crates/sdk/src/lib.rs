//! Floor 1: all that a filter or an extension may see.
//!
//! An extension gives an [`Extension`]: a descriptor with resources, whose actions are routes with
//! their policy rules. A filter is a `tower` layer around a [`Stack`]. Both refuse with a [`Fault`].

pub mod action;
pub mod answer;
pub mod body;
pub mod call;
pub mod context;
pub mod extension;
pub mod fault;
pub mod host;
pub mod media;
pub mod memo;
pub mod old;
pub mod order;
pub mod page;
pub mod path;
pub mod policy;
pub mod query;
pub mod reply;
pub mod request;
pub mod routes;
pub mod scope;
pub mod stack;
pub mod standing;
pub mod testing;
pub mod wire;

mod body_json;
mod form;
mod watch;

pub use action::{Action, Handler, Mount, Parent, Resource, Route};
pub use answer::Answer;
pub use body::Body;
pub use call::{Call, Nothing};
pub use context::{Caller, Connection, Context, Draining, Match, Peer, Places, RateLimits, RequestId, Seen};
pub use extension::{Deps, Extension};
pub use fault::Fault;
pub use host::Host;
pub use http::{Method, StatusCode, header};
pub use media::Media;
pub use memo::Memo;
pub use order::{Column, SortValue};
pub use page::{Cut, Page};
pub use pileus_model as model;
pub use policy::{Decide, ScopeType, Successor};
pub use query::{Params, QueryParam};
pub use reply::Reply;
pub use request::{Request, Response};
pub use scope::Scope;
pub use serde;
pub use serde_json::{Value, json};
pub use stack::{Filter, Stack};
pub use standing::{Admission, Admit, Secrets, Standing};
pub use tracing;
pub use watch::watch;
pub use wire::{Links, at, at_opt, base64, rfc3339};
