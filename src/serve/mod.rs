//! Listeners, limits, drain, stop, and the change from one pipeline to the next. Several listeners in
//! one process, HTTP/1.1 and HTTP/2 on each.
//!
//! `Bound` is the border between *build* and *start*: sockets are open, nothing is accepted yet. A
//! change of pipelines has the same border: [`Serving::open`] may fail and changes nothing,
//! [`Serving::change`] cannot fail.

mod edge;
mod frames;
mod glance;
mod guard;
mod http1;
mod incoming;
mod job_peers;
mod listener;
mod overflow;
mod slots;
mod socket;
mod socket_file;
pub mod systemd;
mod target;
mod tls;

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use pileus_sdk::Stack;
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
};
use tracing::info;

use self::listener::Front;
pub use self::{
    listener::{Bound, bind},
    socket_file::open_folder,
    tls::{Keys, warnings as tls_warnings},
};
use crate::{
    metrics::ServerCounts,
    paste::{Listen, ServerSettings},
};

/// Listeners that accept.
#[derive(Debug)]
pub struct Serving {
    listeners: Vec<Live>,
    tasks: JoinSet<()>,
}

/// One of them.
#[derive(Debug)]
struct Live {
    name: String,
    /// Token of the task that accepts.
    task: Id,
    address: Listen,
    front: Arc<ArcSwap<Front>>,
    changed: watch::Sender<()>,
    stop: watch::Sender<bool>,
}

/// A server that a change brings: it has a listener already, or one was bound for it.
#[derive(Debug)]
pub enum Opened {
    /// The one of this index goes on, with other settings perhaps.
    Kept(usize),
    /// A new one.
    New(Box<Bound>),
}

/// What answers at a listener.
#[derive(Debug, Clone)]
pub struct Answering {
    /// The app, with its pipeline.
    pub app: Stack,
    /// The same, with every stage timed.
    pub timed: Stack,
    /// What is counted of it.
    pub counts: Arc<ServerCounts>,
    /// Of a listener that speaks TLS.
    pub keys: Option<Keys>,
    /// `true` if an app of it does not authenticate its callers: jobs of this host are refused.
    pub open: bool,
}

/// Starts to accept on all of them, each with what answers there.
pub fn start(bound: Vec<(Bound, Answering)>) -> Serving {
    let mut serving = Serving { listeners: Vec::new(), tasks: JoinSet::new() };
    for (bound, app) in bound {
        serving.listen(bound, app);
    }
    serving
}

impl Serving {
    fn listen(&mut self, bound: Bound, answering: Answering) {
        let settings = bound.settings().clone();
        let front = Arc::new(ArcSwap::from_pointee(Front { answering, settings }));
        let ((changed, changes), (stop, stopped)) = (watch::channel(()), watch::channel(false));
        let (name, address) = (bound.name.clone(), bound.address.clone());
        let task = self.tasks.spawn(bound.accept(front.clone(), changes, stopped)).id();
        self.listeners.push(Live { name, task, address, front, changed, stop });
    }

    /// Where each listens.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, &Listen)> {
        self.listeners.iter().map(|it| (it.name.as_str(), &it.address))
    }

    /// Ends if a listener's task panicked, with what is known of it. Cancel safe.
    pub async fn died(&mut self) -> String {
        loop {
            match self.tasks.join_next().await {
                Some(Err(error)) if error.is_panic() => {
                    let of = self.listeners.iter().find(|live| live.task == error.id());
                    let name = of.map_or("one that drains", |live| &live.name);
                    return format!("the listener `{name}` has ended: {error}");
                }
                // One that drained.
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Finds or binds a listener for each server. On an error nothing has changed.
    pub fn open<'a>(
        &self,
        servers: impl IntoIterator<Item = (&'a str, &'a ServerSettings)>,
    ) -> Result<Vec<Opened>, (String, io::Error)> {
        let servers: Vec<_> = servers.into_iter().collect();
        let mut taken = vec![false; self.listeners.len()];
        let mut opened: Vec<Option<Opened>> = servers.iter().map(|_| None).collect();
        // Its own name first: two servers on port 0 are told apart by nothing else.
        for by_name in [true, false] {
            for ((name, settings), opened) in servers.iter().zip(&mut opened) {
                let fits = |(index, live): &(usize, &Live)| {
                    let same = live.front.load().settings.listen == settings.listen;
                    same && !taken[*index]
                        && (live.name == *name || (!by_name && !settings.listen.is_any_port()))
                };
                if opened.is_none()
                    && let Some((index, _)) = self.listeners.iter().enumerate().find(fits)
                {
                    taken[index] = true;
                    *opened = Some(Opened::Kept(index));
                }
            }
        }
        let bound = |(name, settings): (&str, &ServerSettings)| {
            bind(name, settings)
                .map(|bound| Opened::New(Box::new(bound)))
                .map_err(|error| (name.to_owned(), error))
        };
        servers
            .into_iter()
            .zip(opened)
            .map(|(server, opened)| opened.map_or_else(|| bound(server), Ok))
            .collect()
    }

    /// Lets others answer from now on. Requests that have begun end on the pipeline that they began
    /// with; a listener that is no longer wanted drains.
    pub fn change(&mut self, servers: Vec<(String, ServerSettings, Opened, Answering)>) {
        let mut kept = vec![false; self.listeners.len()];
        let mut new = Vec::new();
        for (name, settings, opened, answering) in servers {
            match opened {
                Opened::New(bound) => new.push((*bound, answering)),
                Opened::Kept(index) => {
                    let Some(live) = self.listeners.get_mut(index) else { continue };
                    kept[index] = true;
                    live.name = name;
                    let other = live.front.load().settings != settings;
                    live.front.store(Arc::new(Front { answering, settings }));
                    if other {
                        // Whoever does not listen any more needs no settings.
                        live.changed.send(()).ok();
                    }
                }
            }
        }
        let mut kept = kept.into_iter();
        self.listeners.retain(|live| {
            let stays = kept.next().unwrap_or(true);
            if !stays {
                info!(server = live.name, address = %live.address, "no longer wanted: drains");
                live.stop.send(true).ok();
            }
            stays
        });
        for (bound, app) in new {
            info!(server = bound.name, address = %bound.address, "listens");
            self.listen(bound, app);
        }
    }

    /// Stops accepting, lets requests in flight finish within each listener's `drain_timeout_s`,
    /// then cuts what is left.
    pub async fn stop(mut self) {
        for live in &self.listeners {
            // Without a receiver the listener has ended already.
            live.stop.send(true).ok();
        }
        while self.tasks.join_next().await.is_some() {}
    }
}
