//! Tells a refusal from an answer, on ports that answer 200 to everything. For `--strict` alone.
//!
//! Source: cloud-scheduler 1.13.2, `info_server.py`, `admin_server.py`, `cloud_management.py`.

/// How lines of refusals begin.
const BEGINNINGS: &[&str] =
    &["Could not find ", "Cloud not find ", "Unable to ", "Need to use an integer value"];

/// How lines of refusals end.
const ENDINGS: &[&str] = &[" not found.", "failed. Leaving it for now."];

/// Whether the answer to a question about something by its name says that there is none, or that
/// nothing (or not everything) was done.
pub fn refused(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    if matches!(text.trim(), "{}" | "null") {
        return true;
    }
    text.lines().any(|line| {
        BEGINNINGS.iter().any(|start| line.starts_with(start))
            || ENDINGS.iter().any(|end| line.ends_with(end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_of_refusals_are_known() {
        let refusals = [
            "Could not find cloud C.",
            "Unable to find cluster with name: C",
            "Need to use an integer value for vm_allocation",
            "VM V1 has been Destroyed.\nDestroying VM V2 failed. Leaving it for now.",
            "Unable to shutdown X VMs, use a number.",
            "Could not find a Cluster with name: C.",
            "Unable to retire X VMs, use a number",
            "Cloud not find Cloud C.",
            "Could not find VM with ID: V on Cluster: C.",
            "Unable to retire VM.",
            "Could not find VM ID: V on Cloud: C",
            "Cluster named C not found.",
            "VM Info for VM id: V\nVM with id: V not found.",
            "VM Info for VM id: V\nCluster C not found.\nVM with id: V not found.",
            "Could not find cloud: C - check cloud_status for list of available clouds",
            "{}",
            "null",
        ];
        for text in refusals {
            assert!(refused(text.as_bytes()), "{text}");
        }
        let answers = [
            "",
            "5",
            "1 Running,1 Error,",
            "Cloud: C enabled.",
            "VM slots already set at 5. Nothing to do.",
            "Attempt adjustment on cloud C, change to 5 slots",
            "VM V has been Destroyed.",
            "Retired all VMs in C.",
            "Removed C's VM V from CloudScheduler.",
            "Reset state of C on V",
            "Cluster Info: C\nCluster: C \nADDRESS",
            "{\"VMs\": []}",
        ];
        for text in answers {
            assert!(!refused(text.as_bytes()), "{text}");
        }
    }
}
