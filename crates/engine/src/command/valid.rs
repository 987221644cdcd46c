//! What a value may be. Everything that comes in from outside is bounded here, once.

use pileus_model::{Actor, CloudSpec, Refusal};

use crate::drivers::DRIVERS;

/// Longest name, in bytes.
pub const NAME_MAX: usize = 255;
/// Longest text written by people (why a job is held, why a VM is shut down), in bytes.
pub const TEXT_MAX: usize = 1024;
/// Most arguments of a job's command.
pub const ARGS_MAX: usize = 4096;
/// Longest command, all arguments with their ends together, in bytes: what Linux passes on in one.
pub const COMMAND_MAX: usize = 128 * 1024;
/// Most clouds in a job's targets or an alias; most roles of a token.
pub const LIST_MAX: usize = 1000;
/// Most VMs in one command.
pub const VMS_MAX: usize = 100_000;
/// Largest quantity: what JSON readers everywhere keep exact.
pub const QUANTITY_MAX: u64 = 1 << 53;
/// Most VMs of a cloud or a user, most cores of a VM.
pub const COUNT_MAX: u32 = 1_000_000;

pub fn invalid<T>(field: &'static str, problem: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid { field, problem: problem.into() })
}

/// A key: any characters but control characters, between 1 and [`NAME_MAX`] bytes.
pub fn name(field: &'static str, value: &str) -> Result<(), Refusal> {
    key(field, value)?;
    no_control(field, value)
}

/// A key that an older state may hold: any characters but NUL, between 1 and [`NAME_MAX`] bytes.
pub fn key(field: &'static str, value: &str) -> Result<(), Refusal> {
    if value.is_empty() {
        return invalid(field, "must not be empty");
    }
    text(field, value, NAME_MAX)
}

/// Refuses control characters and the ends of lines of Unicode. Names go into protocols of other programs,
/// environments and tables of text, which would take a part of the name for something of their own.
pub fn no_control(field: &'static str, value: &str) -> Result<(), Refusal> {
    let steers = |letter: &char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
    match value.chars().find(steers) {
        Some(letter) => {
            invalid(field, format!("must not hold the control character U+{:04X}", u32::from(letter)))
        }
        None => Ok(()),
    }
}

/// The name of an object that is created. `.` and `..` are steps of a path: clients take them out of a
/// URL before they send it, and no other way leads to such an object.
pub fn new_name(field: &'static str, value: &str) -> Result<(), Refusal> {
    if matches!(value, "." | "..") {
        return invalid(field, format!("must not be `{value}`, which is a step of a path"));
    }
    name(field, value)
}

/// A user that a client names: a key that events give to no actor of the server itself.
pub fn user(field: &'static str, value: &str) -> Result<(), Refusal> {
    new_name(field, value)?;
    if Actor::is_reserved(value) {
        return invalid(
            field,
            format!("`{value}` stands for an actor of the server itself; choose another name"),
        );
    }
    Ok(())
}

/// A text without NUL, of `max` bytes at most.
pub fn text(field: &'static str, value: &str, max: usize) -> Result<(), Refusal> {
    if value.len() > max {
        return invalid(field, format!("must not be longer than {max} bytes"));
    }
    if value.contains('\0') {
        return invalid(field, "must not hold a NUL character");
    }
    Ok(())
}

/// A list of keys.
pub fn names(field: &'static str, values: &[String]) -> Result<(), Refusal> {
    if values.len() > LIST_MAX {
        return invalid(field, format!("must not hold more than {LIST_MAX} entries"));
    }
    values.iter().try_for_each(|value| name(field, value))
}

pub fn quantity(field: &'static str, value: u64, least: u64) -> Result<(), Refusal> {
    if value < least {
        return invalid(field, format!("must be at least {least}"));
    }
    if value > QUANTITY_MAX {
        return invalid(field, format!("must not be more than {QUANTITY_MAX}"));
    }
    Ok(())
}

pub fn count(field: &'static str, value: u32, least: u32) -> Result<(), Refusal> {
    if value < least {
        return invalid(field, format!("must be at least {least}"));
    }
    if value > COUNT_MAX {
        return invalid(field, format!("must not be more than {COUNT_MAX}"));
    }
    Ok(())
}

/// A cloud's settings, from the configuration or from the API.
pub fn cloud(cloud: &str, spec: &CloudSpec) -> Result<(), Refusal> {
    new_name("name", cloud)?;
    if !DRIVERS.contains(&spec.driver.as_str()) {
        let known = DRIVERS.join("`, `");
        return invalid("driver", format!("`{}` is unknown; there is `{known}`", spec.driver));
    }
    count("vm_slots", spec.vm_slots, 0)?;
    count("cpu_cores", spec.cpu_cores, 0)?;
    quantity("memory_mib", spec.memory_mib, 0)?;
    quantity("storage_gib", spec.storage_gib, 0)?;
    quantity("keep_alive_s", spec.keep_alive_s, 0)?;
    spec.max_vm_memory_mib.map_or(Ok(()), |most| quantity("max_vm_memory_mib", most, 1))?;
    spec.boot_timeout_s.map_or(Ok(()), |timeout| quantity("boot_timeout_s", timeout, 1))
}
