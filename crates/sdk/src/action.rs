//! Resources and their actions: routes as data.
//!
//! The policy rule is a required argument of every action, so that nobody can forget it; policy,
//! metrics, `/extensions`, `pileus routes` and the coverage test read the same data.

use std::{
    fmt,
    future::Future,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use http::{Method, StatusCode};
use pileus_model::BoxFuture;

use crate::{
    Answer, Call, Column, Fault, QueryParam, Reply, ScopeType, page::list_params, scope::SCOPE_PARAMS,
};

/// What answers a call.
pub type Handler = Arc<dyn Fn(Call) -> Answer + Send + Sync>;

/// The default of every rule for which nobody said another.
pub const ADMIN_ALONE: &str = "rule:admin";

/// Which router a route belongs to: the word that `routes = "…"` of `[app.…]` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mount {
    /// `tenant`: `/{project_id}/…` with faults as Nova writes them.
    Tenant,
    /// `cloud_status`: Cloud Scheduler's info API.
    CloudStatus,
    /// `cloud_admin`: Cloud Scheduler's admin API.
    CloudAdmin,
}

impl Mount {
    /// All of them.
    pub const ALL: [Mount; 3] = [Self::Tenant, Self::CloudStatus, Self::CloudAdmin];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::CloudStatus => "cloud_status",
            Self::CloudAdmin => "cloud_admin",
        }
    }
}

/// What stands above a nested resource: `clouds/{cloud_id}/vms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// `cloud`: the parameter is `{cloud_id}`.
    pub member: &'static str,
    /// `clouds`.
    pub collection: &'static str,
}

/// A resource of an extension: a collection of members under `/{project_id}`.
#[derive(Debug, Clone)]
pub struct Resource {
    /// The collection's name in paths; also its name in the router.
    pub collection: &'static str,
    /// What stands above it.
    pub parent: Option<Parent>,
    /// What can be done.
    pub actions: Vec<Action>,
}

/// How an action is reached from its resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `…/collection`.
    Collection,
    /// `…/collection/NAME`.
    CollectionAction,
    /// `…/collection/{id}`.
    Member,
    /// `…/collection/{id}/NAME`.
    MemberAction,
    /// `POST …/collection/{id}/action` with the one key NAME.
    Verb,
    /// `POST …/collection/action` with the one key NAME.
    BulkVerb,
    /// Any path, at a mount; for [`Mount::Tenant`] below `/{project_id}`.
    Custom(Mount, &'static str),
}

/// One thing that can be done to a resource.
#[derive(Clone)]
pub struct Action {
    /// `index`, `show`, `enable`, …: unique within its resource, place and method.
    pub name: &'static str,
    /// The method that asks for it.
    pub method: Method,
    /// Where it is reached.
    pub place: Place,
    /// The policy rule that guards it, `clouds:show`.
    pub rule: &'static str,
    /// Further rules that its controller asks with [`Call::may`].
    pub also: &'static [&'static str],
    /// What decides where no file has the rule: an expression, [`ADMIN_ALONE`] unless it is said. What
    /// `also` names is an administrator's unless a file says otherwise.
    pub default_rule: &'static str,
    /// What a token has to be for; empty: anything.
    pub scope_types: &'static [ScopeType],
    /// Query parameters that it accepts; any other is 400 on `/v2`.
    pub query: Vec<QueryParam>,
    /// What it does, in one line for people.
    pub about: &'static str,
    /// What answers.
    pub handler: Handler,
}

macro_rules! standard {
    ($($(#[$doc:meta])* $name:ident, $method:ident, $place:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name<C, R>(
            rule: &'static str,
            about: &'static str,
            controller: &Arc<C>,
            method: fn(Arc<C>, Call) -> R,
        ) -> Self
        where
            C: Send + Sync + 'static,
            R: Future<Output = Result<Reply, Fault>> + Send + 'static,
        {
            Self::new(stringify!($name), Method::$method, Place::$place, rule, about, controller, method)
        }
    )*};
}

impl Action {
    standard! {
        /// `GET …/collection`.
        index, GET, Collection;
        /// `GET …/collection/detail`.
        detail, GET, CollectionAction;
        /// `POST …/collection`.
        create, POST, Collection;
        /// `GET …/collection/{id}`.
        show, GET, Member;
        /// `PUT …/collection/{id}`.
        update, PUT, Member;
        /// `DELETE …/collection/{id}`.
        delete, DELETE, Member;
    }

    /// Any action.
    pub fn new<C, R>(
        name: &'static str,
        method: Method,
        place: Place,
        rule: &'static str,
        about: &'static str,
        controller: &Arc<C>,
        answer: fn(Arc<C>, Call) -> R,
    ) -> Self
    where
        C: Send + Sync + 'static,
        R: Future<Output = Result<Reply, Fault>> + Send + 'static,
    {
        let controller = controller.clone();
        let handler: Handler = Arc::new(move |call| {
            let mut answer: BoxFuture<_> = Box::pin(answer(controller.clone(), call));
            // Most are there at once; the others wait for somebody who can be woken.
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(reply) => Answer::now(reply.map(Reply::into_response)),
                Poll::Pending => Answer::later(async move { answer.await.map(Reply::into_response) }),
            }
        });
        let (default_rule, scope_types) = (ADMIN_ALONE, &[][..]);
        let query = Vec::new();
        Self { name, method, place, rule, also: &[], default_rule, scope_types, query, about, handler }
    }

    /// What decides where no file has the rule: `rule:member`, or any other expression.
    pub fn default_rule(mut self, expression: &'static str) -> Self {
        self.default_rule = expression;
        self
    }

    /// What a token has to be for; one for anything else is refused.
    pub fn scope_types(mut self, scope_types: &'static [ScopeType]) -> Self {
        self.scope_types = scope_types;
        self
    }

    /// Accepts a query parameter.
    pub fn query(mut self, param: QueryParam) -> Self {
        self.query.push(param);
        self
    }

    /// Accepts what [`Page::of`](crate::Page::of) reads. The words of `sort_key` are the names of `columns`.
    pub fn pages<T: ?Sized>(mut self, columns: &[Column<T>]) -> Self {
        self.query.extend(list_params(columns.iter().map(|column| column.name).collect()));
        self
    }

    /// Accepts what [`Scope::of`](crate::Scope::of) reads, and names the rule that it asks.
    pub fn scoped(mut self, rules: &'static [&'static str]) -> Self {
        self.query.extend(SCOPE_PARAMS.map(|name| QueryParam::flag(name, "Objects of every project")));
        self.asks(rules)
    }

    /// Names further rules that the controller asks with [`Call::may`].
    pub fn asks(mut self, rules: &'static [&'static str]) -> Self {
        self.also = rules;
        self
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({:?}, {})", self.method, self.name, self.place, self.rule)
    }
}

/// A route: an action that has found its path.
#[derive(Clone)]
pub struct Route {
    /// Its router.
    pub mount: Mount,
    /// The method.
    pub method: Method,
    /// The path below the router's mount, `/{project_id}/clouds/{id}`.
    pub path: String,
    /// Names of the path's parameters, in their order.
    pub params: Vec<Box<str>>,
    /// The one key of the body that chooses it, for `POST …/action`.
    pub verb: Option<&'static str>,
    /// The collection it belongs to.
    pub resource: &'static str,
    /// The action's name.
    pub action: &'static str,
    /// The alias of its extension.
    pub extension: &'static str,
    /// The policy rule that guards it.
    pub rule: &'static str,
    /// Further rules that its controller asks.
    pub also: &'static [&'static str],
    /// What decides where no file has the rule.
    pub default_rule: &'static str,
    /// What a token has to be for; empty: anything.
    pub scope_types: &'static [ScopeType],
    /// Query parameters that it accepts; any other is 400 on `/v2`.
    pub query: Vec<QueryParam>,
    /// What it does.
    pub about: &'static str,
    /// What answers.
    pub handler: Handler,
}

impl Route {
    /// The status of an index, show or update is the controller's; this is what most creations of
    /// something that goes on in the background answer with.
    pub const ACCEPTED: StatusCode = StatusCode::ACCEPTED;
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} → {}.{} ({})", self.method, self.path, self.resource, self.action, self.rule)
    }
}
