//! Floor 1: all that a filter or an extension may see.
//!
//! An extension gives an [`Extension`]: a descriptor with resources, whose actions are routes with
//! their policy rules. A filter is a `tower` layer around a [`Stack`]. Both refuse with a [`Fault`].

pub mod action;
pub mod body;
pub mod call;
pub mod context;
pub mod extension;
pub mod fault;
pub mod reply;
pub mod stack;

pub use action::{Action, Handler, Mount, Parent, Resource, Route};
pub use body::Body;
pub use call::{Call, Params};
pub use context::{Caller, Context, Decide, Match, RateLimits, Seen};
pub use extension::{Deps, Extension};
pub use fault::Fault;
pub use http::{Method, StatusCode};
pub use pileus_model as model;
pub use reply::Reply;
pub use serde_json::json;
pub use stack::{Filter, Request, Response, Stack};
