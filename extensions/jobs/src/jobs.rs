//! The controller of `/v2/{project_id}/jobs`. Translates between HTTP and the engine; decides nothing:
//! the engine does.

use std::sync::Arc;

use pileus_sdk::{
    Call, Cut, Fault, Links, Memo, Page, Reply, Scope, StatusCode, header,
    model::{Command, Engine, Job, JobDefaults, JobState, Name, View},
};

use crate::{
    ALL, AS_USER,
    body::{Brief, Create, Full, Hold, Written},
};

pub struct Jobs {
    pub engine: Arc<dyn Engine>,
    pub defaults: Arc<JobDefaults>,
    pub shown: Memo<Job>,
}

impl Jobs {
    /// `{"jobs": [{"id", "state", "links"}]}`, in the order of their ids; `state=` picks one state.
    pub async fn index(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, collection) = (self.engine.view(), call.collection("jobs"));
        cut(&call, &view)?.map(|job| Brief::new(job, &collection)).reply(&call, "jobs")
    }

    /// `{"jobs": [{…}]}`, each as `show` has it.
    pub async fn detail(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, collection) = (self.engine.view(), call.collection("jobs"));
        cut(&call, &view)?.map(|job| Full::new(job, &collection)).reply(&call, "jobs")
    }

    /// `{"job": {…}}`.
    pub async fn show(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, scope) = (self.engine.view(), Scope::of(&call, ALL)?);
        let job = find(&view, &scope, &call.id())?;
        self.shown.reply(&call, job, || {
            Reply::member(StatusCode::OK, "job", &Full::new(job, &call.collection("jobs")))
        })
    }

    /// 202 with the whole job. 403: for another user than the caller, who may not.
    pub async fn create(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let caller = call.context().known_caller()?;
        let mut body: Create = call.json("job")?;
        let user = body.user.take().unwrap_or_else(|| caller.user.clone());
        if user != caller.user && !call.may(AS_USER) {
            return Err(Fault::denied(AS_USER));
        }
        let project = Name::from(&*call.project());
        let command = Command::SubmitJob(Box::new(body.spec(project.clone(), user, &self.defaults)));
        let receipt = self.engine.submit(command, call.actor()).await?;
        let job = find(&receipt.view, &Scope::Project((*project).into()), &receipt.id)?;
        let collection = call.collection("jobs");
        let href = Links { collection: &collection, id: &job.id }.href();
        let reply = Reply::member(StatusCode::ACCEPTED, "job", &Full::new(job, &collection))?;
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

fn cut<'a>(call: &Call, view: &'a View) -> Result<Cut<&'a Arc<Job>>, Fault> {
    let (scope, query) = (Scope::of(call, ALL)?, call.query());
    let state = query.get("state").map(state).transpose()?;
    Page::of(call)?
        .of_map(&view.jobs, |job| scope.sees(&job.project) && state.is_none_or(|state| job.state == state))
}

fn state(word: &str) -> Result<JobState, Fault> {
    JobState::ALL.into_iter().find(|state| state.as_str() == word).ok_or_else(|| {
        let words = JobState::ALL.map(JobState::as_str).join(", ");
        Fault::BadRequest(format!("state param must be one of {words}, not `{word}`"))
    })
}

/// The job of this id, if the call sees it.
fn find<'a>(view: &'a View, scope: &Scope, id: &str) -> Result<&'a Arc<Job>, Fault> {
    let found = view.jobs.get(id).filter(|job| scope.sees(&job.project));
    found.ok_or_else(|| Fault::NotFound { kind: "Job", id: id.into() })
}
