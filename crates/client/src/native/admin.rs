//! `cloud_admin` in `/v2`.

use serde_json::{Value, json};

use super::{
    Api, Shown, Trouble,
    render::{clean, table},
    status,
};
use crate::{
    audit::{Audit, Level},
    options::Id,
    parse::Given,
};

/// What can be done to VMs: the option, the verb, and whether `-a` and `-b` go with it.
struct Deed {
    id: Id,
    verb: &'static str,
    all: bool,
    number: bool,
    lacks: &'static str,
}

#[rustfmt::skip]
const DEEDS: &[Deed] = &[
    Deed { id: Id::Kill,   verb: "shutdown",             all: true,  number: true,  lacks: "-k needs -n ID, or -c NAME with -a or -b NUM" },
    Deed { id: Id::Remove, verb: "remove",               all: true,  number: false, lacks: "-m needs -n ID, or -c NAME with -a" },
    Deed { id: Id::Retire, verb: "force_retire",         all: true,  number: true,  lacks: "-o needs -n ID, or -c NAME with -a or -b NUM" },
    Deed { id: Id::Reset,  verb: "reset_override_state", all: false, number: false, lacks: "-x needs -n ID" },
];

/// Does the one thing that was asked for, by the old order, and notes it.
pub async fn act(api: &Api<'_>, given: &Given, audit: &Audit) -> Result<Shown, Trouble> {
    if let Some(deed) = DEEDS.iter().find(|deed| given.is(deed.id)) {
        return vms(api, given, audit, deed).await;
    }
    for (id, verb, did) in [
        (Id::Enable, "enable", "enabled"),
        (Id::Disable, "disable", "disabled"),
        (Id::Drain, "drain", "drained"),
    ] {
        if let Some(cloud) = given.text(id) {
            api.act(&["clouds", cloud], verb, Value::Null).await?;
            let done = format!("Cloud: {cloud} {did}.");
            note(audit, &done)?;
            return Ok(said(&done, json!({ "cloud": cloud, "done": verb })));
        }
    }
    // In the old order.
    if given.is(Id::Reconfig) {
        return Err(Trouble::NotOffered("-r"));
    }
    if given.is(Id::ReloadLimits) {
        return Err(Trouble::NotOffered("-i"));
    }
    if given.is(Id::ListLimits) {
        let users = api.list(&["users"], "users", &[]).await?;
        let text = table(&[("USER", "name"), ("VMS", "vms"), ("LIMIT", "vm_limit")], &users);
        return Ok(Shown { text, json: json!({ "users": users }), refused: false });
    }
    if given.is(Id::ReloadAliases) {
        explain(given, audit)?;
        api.act(&["cloud-aliases"], "reload", Value::Null).await?;
        note(audit, "Reloaded the cloud_alias file")?;
        return Ok(said("Cloud aliases reloaded.", json!({ "done": "reload" })));
    }
    if given.is(Id::ListAliases) {
        let aliases = api.list(&["cloud-aliases"], "cloud_aliases", &[]).await?;
        let text = table(&[("ALIAS", "name"), ("CLOUDS", "clouds")], &aliases);
        return Ok(Shown { text, json: json!({ "cloud_aliases": aliases }), refused: false });
    }
    if given.is(Id::LogLevel) {
        return Err(Trouble::NotOffered("-l"));
    }
    if let Some(proxy) = given.text(Id::Proxy) {
        return refresh(api, given, audit, proxy).await;
    }
    if given.is(Id::QuickExit) {
        return Err(Trouble::NotOffered("-q"));
    }
    let Some(slots) = given.text(Id::Slots) else {
        return Err(Trouble::Incomplete("nothing to do; --help tells what there is".into()));
    };
    let Some(cloud) = given.text(Id::Cloud) else {
        return Err(Trouble::Incomplete("-v needs -c NAME".into()));
    };
    explain(given, audit)?;
    let vm_slots = number("-v", slots)?;
    api.act(&["clouds", cloud], "set_slots", json!({ "vm_slots": vm_slots })).await?;
    note(audit, &format!("Attempting to adjust vm allocation on {cloud}. Target: {slots}"))?;
    let done = format!("Cloud: {cloud} may have {vm_slots} VMs.");
    Ok(said(&done, json!({ "cloud": cloud, "vm_slots": vm_slots })))
}

/// Renews a proxy; tells until when it lasts.
async fn refresh(api: &Api<'_>, given: &Given, audit: &Audit, which: &str) -> Result<Shown, Trouble> {
    let Some(user) = given.text(Id::User) else {
        return Err(Trouble::Incomplete("-p needs -u USER".into()));
    };
    explain(given, audit)?;
    let proxy = format!("{which}_proxy");
    let mut document = api.act(&["users", user], "refresh", json!({ "proxy": proxy })).await?;
    let Some(expires) = document["user"]["proxies"][&proxy]["expires"].as_str() else {
        return Err(Trouble::Garbled(format!("it has no end of the {proxy}")));
    };
    let done = format!("User: {user} has a {which} proxy until {expires}.");
    note(audit, &format!("Refreshed the {which} proxy of user: {user}"))?;
    Ok(Shown { text: clean(&done), json: document["user"].take(), refused: false })
}

async fn vms(api: &Api<'_>, given: &Given, audit: &Audit, deed: &Deed) -> Result<Shown, Trouble> {
    let (cloud, verb) = (given.text(Id::Cloud), deed.verb);
    if let Some(id) = given.text(Id::Vm) {
        explain(given, audit)?;
        if cloud.is_some() {
            status::vm(api, cloud, id).await?;
        }
        api.act(&["vms", id], verb, Value::Null).await?;
        note(audit, &format!("{verb} of VM: {id}"))?;
        return Ok(said(&format!("VM: {id} {verb} accepted."), json!({ "vm": id, "done": verb })));
    }
    let which = match (cloud, given.text(Id::Number)) {
        (Some(cloud), _) if deed.all && given.is(Id::All) => {
            explain(given, audit)?;
            json!({ "cloud": cloud })
        }
        (Some(cloud), Some(count)) if deed.number => {
            let count = number("-b", count)?;
            explain(given, audit)?;
            json!({ "vms": first(api, cloud, deed, count).await? })
        }
        _ => return Err(Trouble::Incomplete(deed.lacks.into())),
    };
    let mut document = api.act(&["vms"], verb, which).await?;
    let Some(Value::Array(results)) = document.get_mut("results").map(Value::take) else {
        return Err(Trouble::Garbled("it has no list `results`".into()));
    };
    let refused = results.iter().any(|result| result["status"].as_u64().is_none_or(|status| status >= 400));
    let cloud = cloud.unwrap_or_default();
    note(audit, &format!("{verb} of {} VMs on cloud: {cloud}", results.len()))?;
    let text = match results.is_empty() {
        true => format!("No VMs on {}.", clean(cloud)),
        false => table(&[("ID", "id"), ("STATUS", "status"), ("MESSAGE", "message")], &results),
    };
    Ok(Shown { text, json: json!({ "results": results }), refused })
}

/// The oldest VMs of a cloud to which it has not been done yet.
async fn first(api: &Api<'_>, cloud: &str, deed: &Deed, count: u32) -> Result<Vec<Value>, Trouble> {
    let mut vms = status::vms(api, Some(cloud)).await?;
    vms.retain(|vm| {
        let going = vm["destroy_reason"].is_string();
        !going && (deed.id == Id::Kill || vm["force_retire"] != true)
    });
    vms.sort_by_cached_key(|vm| vm["created"].as_str().map(str::to_owned));
    vms.truncate(count as usize);
    Ok(vms.iter_mut().map(|vm| vm["id"].take()).collect())
}

fn number(option: &str, text: &str) -> Result<u32, Trouble> {
    text.parse()
        .map_err(|_| Trouble::Incomplete(format!("{option} needs a whole number, not `{}`", clean(text))))
}

fn said(line: &str, json: Value) -> Shown {
    Shown { text: clean(line), json, refused: false }
}

/// Notes the comment, where the configuration wants one.
fn explain(given: &Given, audit: &Audit) -> Result<(), Trouble> {
    if !audit.wants_comments() {
        return Ok(());
    }
    match given.text(Id::Comment) {
        Some(comment) => note(audit, &format!("Comment: {comment}")),
        None => Err(Trouble::Incomplete("admin_log_comments wants -C 'reason' of every change".into())),
    }
}

fn note(audit: &Audit, text: &str) -> Result<(), Trouble> {
    let unexpected = |error| crate::http::Failure::Unexpected("AuditLog", error);
    audit.write(Level::Info, text).map_err(|error| unexpected(error).into())
}
