//! The controller that shows VMs. Translates between HTTP and the engine; decides nothing.

use std::sync::Arc;

use pileus_sdk::{
    Call, Column, Cut, Fault, Memo, Page, Reply, Scope, SortValue, StatusCode,
    model::{Engine, View, Vm},
};

use crate::{
    ALL,
    body::{Brief, Full},
};

pub struct Vms {
    pub engine: Arc<dyn Engine>,
    pub shown: Memo<Vm>,
}

impl Vms {
    /// `{"vms": [{"id", "state", "links"}]}`, in the order of their ids.
    pub async fn index(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, collection) = (self.engine.view(), call.collection("vms"));
        cut(&call, &view, |_| true)?.map(|vm| Brief::new(vm, &collection)).reply(&call, "vms")
    }

    /// `{"vms": [{…}]}`, each as `show` has it.
    pub async fn detail(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, collection) = (self.engine.view(), call.collection("vms"));
        cut(&call, &view, |_| true)?.map(|vm| Full::new(vm, &collection)).reply(&call, "vms")
    }

    /// `{"vm": {…}}`.
    pub async fn show(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, scope) = (self.engine.view(), Scope::of(&call, ALL)?);
        let vm = find(&view, &scope, &call.id())?;
        self.shown
            .reply(&call, vm, || Reply::member(StatusCode::OK, "vm", &Full::new(vm, &call.collection("vms"))))
    }

    /// `GET …/clouds/{cloud_id}/vms`: as `index`, of one cloud.
    pub async fn of_cloud(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, name) = (self.engine.view(), call.param("cloud_id"));
        let cloud = view.cloud(&name);
        let cloud = cloud.ok_or_else(|| Fault::NotFound { kind: "Cloud", id: name.to_string() })?;
        let collection = call.collection("vms");
        let cut = cut(&call, &view, |vm| vm.cloud == cloud.name)?;
        cut.map(|vm| Brief::new(vm, &collection)).reply(&call, "vms")
    }
}

/// Sort keys of a list of VMs.
pub const COLUMNS: &[Column<Vm>] = &[
    Column::id("id", |vm| SortValue::text(&vm.id)),
    Column::new("cloud", |vm| SortValue::text(&vm.cloud)),
    Column::new("project_id", |vm| SortValue::text(&vm.project)),
    Column::new("user", |vm| SortValue::text(&vm.user)),
    Column::new("vm_type", |vm| SortValue::text(&vm.vm_type)),
    Column::new("cpu_cores", |vm| SortValue::number(vm.cpu_cores)),
    Column::new("memory_mib", |vm| SortValue::number(vm.memory_mib)),
    Column::new("state", |vm| SortValue::text(vm.shown_state())),
    Column::new("created", |vm| SortValue::number(vm.created.0)),
    Column::new("changed", |vm| SortValue::number(vm.changed.0)),
    Column::new("running", |vm| SortValue::number_or_absent(vm.running.map(|at| at.0))),
    Column::new("registered", |vm| SortValue::number_or_absent(vm.registered.map(|at| at.0))),
    Column::new("idle_since", |vm| SortValue::number_or_absent(vm.idle_since.map(|at| at.0))),
    Column::new("job", |vm| SortValue::text_or_absent(vm.job.as_deref())),
    Column::new("hostname", |vm| SortValue::text(&vm.hostname)),
];

fn cut<'a>(call: &Call, view: &'a View, wants: impl Fn(&Vm) -> bool) -> Result<Cut<&'a Arc<Vm>>, Fault> {
    let scope = Scope::of(call, ALL)?;
    Page::of(call)?.of_map(&view.vms, COLUMNS, |vm| scope.sees(&vm.project), wants)
}

/// The VM of this id, if the call sees it.
pub fn find<'a>(view: &'a View, scope: &Scope, id: &str) -> Result<&'a Arc<Vm>, Fault> {
    let found = view.vms.get(id).filter(|vm| scope.sees(&vm.project));
    found.ok_or_else(|| Fault::NotFound { kind: "VM", id: id.into() })
}
