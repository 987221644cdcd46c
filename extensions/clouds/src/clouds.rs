//! The controller of `/v2/{project_id}/clouds`. Translates between HTTP and the engine; decides
//! nothing: the engine does.

use std::sync::Arc;

use pileus_sdk::{
    Call, Column, Fault, Links, Memo, Page, Reply, SortValue, StatusCode, header,
    model::{Cloud, Command, Engine, View},
};

use crate::body::{Brief, Create, Full, SetSlots, Update};

pub struct Clouds {
    pub engine: Arc<dyn Engine>,
    pub shown: Memo<Cloud>,
}

/// Sort keys of a list of clouds.
pub const COLUMNS: &[Column<Arc<Cloud>>] = &[
    Column::id("id", |cloud| SortValue::text(&cloud.name)),
    Column::id("name", |cloud| SortValue::text(&cloud.name)),
    Column::new("enabled", |cloud| SortValue::Flag(cloud.enabled())),
    Column::new("vm_slots", |cloud| SortValue::number(cloud.vm_slots())),
    Column::new("priority", |cloud| SortValue::number(cloud.spec.priority)),
];

/// The order of the configuration, retired clouds last.
const IN_ORDER: &[Column<Arc<Cloud>>] = &[
    Column::new("retired", |cloud| SortValue::Flag(cloud.retired)),
    Column::new("order", |cloud| SortValue::number(cloud.order)),
];

impl Clouds {
    /// `{"clouds": [{"id", "name", "links"}]}`, in the order of the configuration.
    pub async fn index(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, collection) = (self.engine.view(), call.collection("clouds"));
        let cut = Page::of(&call)?.of_list(view.clouds_in_order(), COLUMNS, IN_ORDER)?;
        cut.map(|cloud| Brief::new(cloud, &collection)).reply(&call, "clouds")
    }

    /// `{"clouds": [{…}]}`, each as `show` has it.
    pub async fn detail(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, collection) = (self.engine.view(), call.collection("clouds"));
        let cut = Page::of(&call)?.of_list(view.clouds_in_order(), COLUMNS, IN_ORDER)?;
        cut.map(|cloud| Full::new(cloud, &collection)).reply(&call, "clouds")
    }

    /// `{"cloud": {…}}`. The name's case does not matter.
    pub async fn show(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let view = self.engine.view();
        let cloud = find(&view, &call.id())?;
        self.shown.reply(&call, cloud, || {
            Reply::member(StatusCode::OK, "cloud", &Full::new(cloud, &call.collection("clouds")))
        })
    }

    /// 201 with the cloud. 409: there is one of this name.
    pub async fn create(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let body: Create = call.json("cloud")?;
        let name = body.name.clone();
        let command = Command::CreateCloud { cloud: name.as_str().into(), spec: body.spec() };
        let receipt = self.engine.submit(command, call.actor()).await?;
        let (cloud, collection) = (find(&receipt.view, &name)?, call.collection("clouds"));
        let href = Links { collection: &collection, id: &cloud.name }.href();
        let reply = Reply::member(StatusCode::CREATED, "cloud", &Full::new(cloud, &collection))?;
        Ok(reply.header(header::LOCATION, &href))
    }

    /// 200 with the cloud. 409: it comes from `pileus.toml`.
    pub async fn update(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let view = self.engine.view();
        let old = find(&view, &call.id())?;
        let body: Update = call.json("cloud")?;
        let command = Command::UpdateCloud { cloud: old.name.clone(), spec: body.of(&old.spec) };
        let receipt = self.engine.submit(command, call.actor()).await?;
        let cloud = find(&receipt.view, &old.name)?;
        Reply::member(StatusCode::OK, "cloud", &Full::new(cloud, &call.collection("clouds")))
    }

    /// 204. 409: it comes from `pileus.toml`.
    pub async fn delete(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        self.submit(&call, |cloud| Command::DeleteCloud { cloud: cloud.name.clone() }).await?;
        Reply::status(StatusCode::NO_CONTENT)
    }

    /// `{"enable": null}`: 202. Ends a drain, too; VMs that retire by it go all the same.
    pub async fn enable(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        self.switch(&call, "enable", true).await
    }

    /// `{"disable": null}`: 202. Running VMs stay, and go on taking jobs: `drain` ends that.
    pub async fn disable(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        self.switch(&call, "disable", false).await
    }

    /// `{"drain": null}`: 202. Running jobs end, idle VMs go, and nothing new starts until `enable`.
    pub async fn drain(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        call.nothing("drain")?;
        self.submit(&call, |cloud| Command::DrainCloud { cloud: cloud.name.clone() }).await?;
        Reply::status(StatusCode::ACCEPTED)
    }

    async fn switch(&self, call: &Call, verb: &str, enabled: bool) -> Result<Reply, Fault> {
        call.nothing(verb)?;
        self.submit(call, |cloud| Command::EnableCloud { cloud: cloud.name.clone(), enabled }).await?;
        Reply::status(StatusCode::ACCEPTED)
    }

    /// `{"set_slots": {"vm_slots": 4}}`: 202. Surplus VMs, the youngest first, are retired.
    pub async fn set_slots(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let SetSlots { vm_slots } = call.json("set_slots")?;
        self.submit(&call, |cloud| Command::SetSlots { cloud: cloud.name.clone(), vm_slots }).await?;
        Reply::status(StatusCode::ACCEPTED)
    }

    async fn submit(&self, call: &Call, command: impl FnOnce(&Cloud) -> Command) -> Result<(), Fault> {
        let command = command(find(&self.engine.view(), &call.id())?);
        self.engine.submit(command, call.actor()).await?;
        Ok(())
    }
}

fn find<'a>(view: &'a View, name: &str) -> Result<&'a Arc<Cloud>, Fault> {
    view.cloud(name).ok_or_else(|| Fault::NotFound { kind: "Cloud", id: name.into() })
}
