//! The controller of `/v2/{project_id}/cloud-aliases`. Translates between HTTP and the engine.

use std::sync::Arc;

use pileus_sdk::{
    Call, Column, Fault, Links, Page, Reply, SortValue, StatusCode, header,
    model::{Command, Engine, Name, View},
    serde::{Deserialize, Serialize},
};

pub struct Aliases {
    pub engine: Arc<dyn Engine>,
}

impl Aliases {
    /// `{"cloud_aliases": [{"id", "name", "clouds", "links"}]}`, in the order of their names.
    pub async fn index(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, collection) = (self.engine.view(), call.collection("cloud-aliases"));
        let cut = Page::of(&call)?.of_list(&view.aliases, &columns(), &[])?;
        cut.map(|(name, clouds)| Shown::new(name, clouds, &collection)).reply(&call, "cloud_aliases")
    }

    /// `{"cloud_alias": {…}}`.
    pub async fn show(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        answer(&call, &self.engine.view(), StatusCode::OK, &call.id())
    }

    /// `{"cloud_alias": {"name": "West", "clouds": ["alpha"]}}`: 201. 409: there is one of this name.
    pub async fn create(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let Create { name, clouds } = call.json("cloud_alias")?;
        // Sent again, it finds the alias that it made itself.
        if !call.is_repeated() && self.engine.view().aliases.contains_key(&name) {
            return Err(Fault::Conflict(format!("Cloud alias {name} exists.")));
        }
        let command = Command::SetAlias { alias: name.clone(), clouds };
        let receipt = self.engine.submit(command, call.actor()).await?;
        let reply = answer(&call, &receipt.view, StatusCode::CREATED, &name)?;
        let href = Links { collection: &call.collection("cloud-aliases"), id: &name }.href();
        Ok(reply.header(header::LOCATION, &href))
    }

    /// `{"cloud_alias": {"clouds": ["alpha"]}}`: 200 with the alias.
    pub async fn update(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let alias = find(&self.engine.view(), &call.id())?.0.clone();
        let Update { clouds } = call.json("cloud_alias")?;
        let command = Command::SetAlias { alias: alias.clone(), clouds };
        let receipt = self.engine.submit(command, call.actor()).await?;
        answer(&call, &receipt.view, StatusCode::OK, &alias)
    }

    /// 204.
    pub async fn delete(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let alias = find(&self.engine.view(), &call.id())?.0.clone();
        self.engine.submit(Command::DeleteAlias { alias }, call.actor()).await?;
        Reply::status(StatusCode::NO_CONTENT)
    }

    /// `{"reload": null}`: 202. A file that cannot be read leaves the aliases as they are, and is a fault.
    pub async fn reload(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        call.nothing("reload")?;
        self.engine.submit(Command::ReloadAliases, call.actor()).await?;
        Reply::status(StatusCode::ACCEPTED)
    }
}

/// Alias in a list: its name and its clouds.
type Named<'a> = (&'a Name, &'a Arc<[String]>);

/// Sort keys of a list of aliases.
pub fn columns<'a>() -> [Column<Named<'a>>; 2] {
    [
        Column::id("id", |(name, _)| SortValue::text(name)),
        Column::id("name", |(name, _)| SortValue::text(name)),
    ]
}

fn answer(call: &Call, view: &View, status: StatusCode, name: &str) -> Result<Reply, Fault> {
    let (name, clouds) = find(view, name)?;
    let collection = call.collection("cloud-aliases");
    Reply::member(status, "cloud_alias", &Shown::new(name, clouds, &collection))
}

/// The alias of this name, in its own case.
fn find<'a>(view: &'a View, name: &str) -> Result<(&'a Name, &'a Arc<[String]>), Fault> {
    let found = view.aliases.get_key_value(name);
    found.ok_or_else(|| Fault::NotFound { kind: "Cloud alias", id: name.into() })
}

/// An alias.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
struct Shown<'a> {
    id: &'a str,
    name: &'a str,
    /// Names of clouds; one that is not there is passed over.
    clouds: &'a [String],
    links: Links<'a>,
}

impl<'a> Shown<'a> {
    fn new(name: &'a str, clouds: &'a [String], collection: &'a str) -> Self {
        Self { id: name, name, clouds, links: Links { collection, id: name } }
    }
}

#[derive(Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
struct Create {
    name: Name,
    clouds: Vec<String>,
}

#[derive(Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
struct Update {
    clouds: Vec<String>,
}
