//! Judges what `cofferdam ps --audit --json` says of a running VM with each device in a host of its own.

use serde_json::Value;

/// Devices that are registers alone: nothing justifies guest memory for them.
const REGISTER_DEVICES: &[&str] = &["uart", "mc146818", "rtc", "i8042", "acpi-pm", "pvpanic", "debug-exit"];
/// A UART, a clock, a keyboard controller, power management and entropy are in every machine.
const HOSTS_LEAST: usize = 5;

/// Says what is wrong, if anything is.
pub fn judge(json: &str) -> Result<(), String> {
    let parsed: Value = serde_json::from_str(json).map_err(|error| format!("ps printed no JSON ({error}): {json}"))?;
    let rows = parsed.as_array().ok_or("ps printed no list")?;
    let hosts: Vec<&Value> = rows.iter().filter(|row| row["name"] != "vmm" && row["class"] != "vmm").collect();
    if hosts.len() < HOSTS_LEAST {
        return Err(format!("{} hosts, at least {HOSTS_LEAST} expected: {json}", hosts.len()));
    }
    let mut wrong = Vec::new();
    for row in rows {
        let name = row["name"].as_str().unwrap_or("a host without a name");
        // At level `strict` it is mode 1; nothing has filtered the outer guest.
        if row["seccomp_mode"] != if row["level"] == "strict" { 1 } else { 2 } {
            wrong.push(format!("{name}: seccomp_mode is {}", row["seccomp_mode"]));
        }
        if row["no_new_privs"] != true {
            wrong.push(format!("{name}: no_new_privs is {}", row["no_new_privs"]));
        }
        if row["differences"].as_array().is_none_or(|differences| !differences.is_empty()) {
            wrong.push(format!("{name}: differences {}", row["differences"]));
        }
        let registers_only = REGISTER_DEVICES.iter().any(|device| name.contains(device));
        if registers_only && row["guest_memory_bytes"] != 0 {
            wrong.push(format!("{name}: holds {} bytes of guest memory", row["guest_memory_bytes"]));
        }
        for field in
            ["vm", "class", "pid", "level", "syscalls_allowed", "descriptors", "pss_bytes", "restarts", "state"]
        {
            if row[field].is_null() {
                wrong.push(format!("{name}: no field {field}"));
            }
        }
    }
    if !hosts.iter().any(|row| row["name"].as_str().is_some_and(|name| name.contains("uart"))) {
        wrong.push("no host for the UART".to_owned());
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(name: &str) -> Value {
        json!({"vm": "a", "name": name, "class": "x", "pid": 7, "level": "seccomp", "seccomp_mode": 2,
            "no_new_privs": true, "syscalls_allowed": 4, "descriptors": ["channel"], "guest_memory_bytes": 0,
            "pss_bytes": 1, "restarts": 0, "state": "running", "differences": []})
    }

    fn rows() -> Vec<Value> {
        ["uart16550", "mc146818", "i8042", "acpi-pm", "virtio-entropy"].map(row).to_vec()
    }

    #[test]
    fn hosts_as_their_recipes_say_are_accepted() {
        assert_eq!(judge(&Value::from(rows()).to_string()), Ok(()));
    }

    #[test]
    fn every_weakness_is_named() {
        for (field, value) in [
            ("seccomp_mode", json!(0)),
            ("no_new_privs", json!(false)),
            ("differences", json!(["holds a tty"])),
            ("guest_memory_bytes", json!(4096)),
            ("pid", Value::Null),
            ("level", json!("strict")),
        ] {
            let mut rows = rows();
            rows[0][field] = value;
            let why = judge(&Value::from(rows).to_string()).unwrap_err();
            assert!(why.contains("uart16550"), "{field}: {why}");
        }
    }

    #[test]
    fn a_list_without_hosts_is_no_proof() {
        assert!(judge("[]").is_err());
        assert!(judge("").is_err());
        assert!(judge("There is no VM.").is_err());
    }
}
