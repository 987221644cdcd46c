//! The controller of `/v2/{project_id}/jobs`. Translates between HTTP and the engine; decides nothing:
//! the engine does.

use std::sync::Arc;

use pileus_sdk::{
    Call, Column, Cut, Fault, Links, Memo, Page, QueryParam, Reply, Scope, SortValue, StatusCode, header,
    model::{Command, Engine, Job, JobDefaults, JobState, Name, View},
    query::Values,
};

use crate::{
    ALL, ANY_PRIORITY, AS_USER, HIGH_PRIORITY, PRIORITIES,
    body::{Brief, Create, Full, Hold, Written, end},
};

pub struct Jobs {
    pub engine: Arc<dyn Engine>,
    pub defaults: Arc<JobDefaults>,
    pub shown: Memo<Job>,
}

impl Jobs {
    /// `{"jobs": [{"id", "state", "finished", "exit_code", "signal", "links"}]}`, in the order of their ids
    /// unless `sort_key=` says another; `state=` picks one state.
    pub async fn index(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, collection) = (self.engine.view(), call.collection("jobs"));
        cut(&call, &view)?.map(|job| Brief::new(job, &collection)).reply(&call, "jobs")
    }

    /// `{"jobs": [{…}]}`, each as `show` has it.
    pub async fn detail(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, collection) = (self.engine.view(), call.collection("jobs"));
        cut(&call, &view)?.map(|job| Full::new(&view, job, &collection)).reply(&call, "jobs")
    }

    /// `{"job": {…}}`.
    pub async fn show(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, scope) = (self.engine.view(), Scope::of(&call, ALL)?);
        let job = find(&view, &scope, &call.id())?;
        let write = || {
            let collection = call.collection("jobs");
            Reply::member(StatusCode::OK, "job", &Full::new(&view, job, &collection))
        };
        match job.state {
            // The reason of a job that waits depends on other jobs.
            JobState::New => write(),
            _ => self.shown.reply(&call, job, write),
        }
    }

    /// 202 with the whole job. 403: for another user, of high priority or with a priority out of range, which a rule
    /// denies to the caller.
    pub async fn create(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let caller = call.context().known_caller()?;
        let mut body: Create = call.json("job")?;
        let user = body.user.take().unwrap_or_else(|| caller.user.clone());
        let asked = [
            (AS_USER, user != caller.user),
            (HIGH_PRIORITY, body.high_priority),
            (ANY_PRIORITY, !PRIORITIES.contains(&body.priority)),
        ];
        if let Some((rule, _)) = asked.into_iter().find(|(rule, asks)| *asks && !call.may(rule)) {
            return Err(Fault::denied(rule));
        }
        let project = Name::from(&*call.project());
        let command = Command::SubmitJob(Box::new(body.spec(project.clone(), user, &self.defaults)));
        let receipt = self.engine.submit(command, call.actor()).await?;
        let job = find(&receipt.view, &Scope::Project((*project).into()), &receipt.id)?;
        let collection = call.collection("jobs");
        let href = Links { collection: &collection, id: &job.id }.href();
        let reply = Reply::member(StatusCode::ACCEPTED, "job", &Full::new(&receipt.view, job, &collection))?;
        Ok(reply.header(header::LOCATION, &href))
    }

    /// 204. One that runs is killed.
    pub async fn delete(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        self.submit(&call, |job| Command::DeleteJob { job }).await?;
        Reply::status(StatusCode::NO_CONTENT)
    }

    /// `{"hold": {"reason": "…"}}` or `{"hold": null}`: 202. 409: it runs, or has ended.
    pub async fn hold(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let hold: Option<Hold> = call.json("hold")?;
        let reason = hold.unwrap_or_default().reason;
        let reason = reason.unwrap_or_else(|| format!("held by {}", call.actor().user));
        self.submit(&call, |job| Command::HoldJob { job, reason }).await?;
        Reply::status(StatusCode::ACCEPTED)
    }

    /// `{"release": null}`: 202. 409: it is not held.
    pub async fn release(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        call.nothing("release")?;
        self.submit(&call, |job| Command::ReleaseJob { job }).await?;
        Reply::status(StatusCode::ACCEPTED)
    }

    /// `{"output": {"state", "stdout", "stderr", "truncated", "exit_code", "signal"}}`; before the end
    /// the texts are empty and the code is null.
    pub async fn output(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, scope) = (self.engine.view(), Scope::of(&call, ALL)?);
        let job = find(&view, &scope, &call.id())?;
        let output = self.engine.output(&job.id).await?.unwrap_or_default();
        Reply::member(StatusCode::OK, "output", &Written::new(job, &output))
    }

    /// `{"explanation": {…}}`: every cloud with the first test that it fails, the share, the limits.
    pub async fn explain(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, scope) = (self.engine.view(), Scope::of(&call, ALL)?);
        let job = find(&view, &scope, &call.id())?;
        let gone = || Fault::NotFound { kind: "Job", id: call.id().into() };
        let explained = self.engine.explain(&job.id).await?.ok_or_else(gone)?;
        Reply::member(StatusCode::OK, "explanation", &explained)
    }

    async fn submit(&self, call: &Call, command: impl FnOnce(Name) -> Command) -> Result<(), Fault> {
        let scope = Scope::of(call, ALL)?;
        let command = command(find(&self.engine.view(), &scope, &call.id())?.id.clone());
        self.engine.submit(command, call.actor()).await?;
        Ok(())
    }
}

/// Sort keys of a list of jobs.
pub const COLUMNS: &[Column<Job>] = &[
    Column::id("id", |job| SortValue::text(&job.id)),
    Column::new("project_id", |job| SortValue::text(&job.project)),
    Column::new("user", |job| SortValue::text(&job.user)),
    Column::new("vm_type", |job| SortValue::text(&job.vm_type)),
    Column::new("cpu_cores", |job| SortValue::number(job.cpu_cores)),
    Column::new("memory_mib", |job| SortValue::number(job.memory_mib)),
    Column::new("priority", |job| SortValue::number(job.priority)),
    Column::new("state", |job| SortValue::text(job.state.as_str())),
    Column::new("submitted", |job| SortValue::number(job.submitted.0)),
    Column::new("started", |job| SortValue::number_or_absent(job.started.map(|at| at.0))),
    Column::new("finished", |job| SortValue::number_or_absent(job.finished.map(|at| at.0))),
    Column::new("vm", |job| SortValue::text_or_absent(job.vm.as_deref())),
    Column::new("cloud", |job| SortValue::text_or_absent(job.cloud.as_deref())),
    Column::new("attempts", |job| SortValue::number(job.attempts)),
    Column::new("exit_code", |job| SortValue::number_or_absent(end(job).0)),
];

/// The query parameter that picks the jobs of one state.
pub fn state_param() -> QueryParam {
    let words = JobState::ALL.map(JobState::as_str).to_vec();
    QueryParam::new("state", Values::Word(words), "State of the jobs that are listed")
}

fn cut<'a>(call: &Call, view: &'a View) -> Result<Cut<&'a Arc<Job>>, Fault> {
    let (scope, state) = (Scope::of(call, ALL)?, call.query().get("state"));
    let wants = |job: &Job| state.is_none_or(|state| job.state.as_str() == state);
    Page::of(call)?.of_map(&view.jobs, COLUMNS, |job| scope.sees(&job.project), wants)
}

/// The job of this id, if the call sees it.
pub fn find<'a>(view: &'a View, scope: &Scope, id: &str) -> Result<&'a Arc<Job>, Fault> {
    let found = view.jobs.get(id).filter(|job| scope.sees(&job.project));
    found.ok_or_else(|| Fault::NotFound { kind: "Job", id: id.into() })
}
