//! When a machine's real-time clock begins.

// The C library knows the time zone.
#![allow(unsafe_code)]

use crate::args::usage;
use anyhow::Result;
use schema::host::Setting;
use std::time::{SystemTime, UNIX_EPOCH};
use vmm::supervisor::PlannedDevice;

/// The catalogue name of the clock, and its option.
const CLOCK: &str = "mc146818";
const OPTION: &str = "epoch_ns";

const SECONDS_OF_A_DAY: i64 = 86_400;

/// Has the clock among these devices begin at `base`: `utc`, `localtime`, or a date.
pub fn begin(devices: &mut [PlannedDevice], base: &str) -> Result<()> {
    let epoch_ns = epoch_ns(base, now_ns()).ok_or_else(|| {
        usage!("--rtc {base}: give utc, localtime, or a date from 1970 on, as in 2001-02-28T23:59:58")
    })?;
    for clock in devices.iter_mut().filter(|device| device.device == CLOCK) {
        clock.options.retain(|option| option.name != OPTION);
        clock.options.push(Setting { name: OPTION.into(), value: epoch_ns.to_string() });
    }
    Ok(())
}

fn now_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

/// Unix time in nanoseconds that the clock shows when the guest's is 0.
fn epoch_ns(base: &str, now: u128) -> Option<u64> {
    let now = u64::try_from(now).ok()?;
    match base {
        "utc" => Some(now),
        "localtime" => {
            let seconds = i64::try_from(now / 1_000_000_000).ok()?;
            now.checked_add_signed(east_of_greenwich(seconds).checked_mul(1_000_000_000)?)
        }
        date => u64::try_from(seconds_of(date)?).ok()?.checked_mul(1_000_000_000),
    }
}

/// Seconds that local time is ahead of UTC.
fn east_of_greenwich(now: libc::time_t) -> i64 {
    // SAFETY: zeroes are a valid value of this plain struct, which the call only fills.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both point to values that live until the call returns.
    let filled = unsafe { libc::localtime_r(&raw const now, &raw mut local) };
    if filled.is_null() { 0 } else { local.tm_gmtoff }
}

/// Unix time of `YYYY-MM-DD` or `YYYY-MM-DDTHH:MM:SS`.
fn seconds_of(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let numbers = |text: &str, between: char, bounds: [(i64, i64); 3]| -> Option<[i64; 3]> {
        let parts: Vec<&str> = text.split(between).collect();
        let parts: [&str; 3] = parts.try_into().ok()?;
        let mut found = [0; 3];
        for ((number, part), (least, most)) in found.iter_mut().zip(parts).zip(bounds) {
            let parsed = part.parse::<i64>().ok().filter(|_| part.bytes().all(|byte| byte.is_ascii_digit()))?;
            *number = Some(parsed).filter(|parsed| (least..=most).contains(parsed))?;
        }
        Some(found)
    };
    // What the clock's ten bytes can show.
    let [year, month, day] = numbers(date, '-', [(1970, 9999), (1, 12), (1, 31)])?;
    let [hour, minute, second] = numbers(time, ':', [(0, 23), (0, 59), (0, 59)])?;
    let days = days_before(year, month, day);
    // A day that the month does not have is one of the next month.
    let next = if month == 12 { days_before(year + 1, 1, 1) } else { days_before(year, month + 1, 1) };
    (days < next).then_some(days * SECONDS_OF_A_DAY + hour * 3600 + minute * 60 + second)
}

/// Days from 1970 on, in the Gregorian calendar.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that a leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (century, of_century) = (year / 100, year % 100);
    // 719468 days from 1 March of year 0 to 1 January 1970.
    146_097 * century / 4 + 1461 * of_century / 4 + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for date in [
            "",
            "now",
            "1969-12-31",
            "2001-02-29",
            "2001-13-01",
            "2001-1",
            "2001-01-01T24:00:00",
            "2001-01-01T1:2",
            "+001-01-01",
        ] {
            assert_eq!(epoch_ns(date, 0), None, "{date}");
        }
        let sentence = begin(&mut [], "tomorrow").unwrap_err().to_string();
        assert!(sentence.contains("tomorrow") && sentence.contains("localtime"), "{sentence}");
    }

    #[test]
    fn dates_are_seconds_since_1970() {
        for (date, seconds) in [
            ("1970-01-01", 0),
            ("2000-02-29T01:02:03", 951_786_123),
            ("2024-02-29T23:59:58", 1_709_251_198),
            ("2001-09-09T01:46:40", 1_000_000_000),
            ("2100-03-01", 4_107_542_400),
        ] {
            assert_eq!(epoch_ns(date, 0), Some(seconds * 1_000_000_000), "{date}");
        }
    }

    #[test]
    fn utc_is_now_and_local_time_is_within_a_day_of_it() {
        let now = 1_700_000_000_000_000_000;
        assert_eq!(epoch_ns("utc", now), Some(now as u64));
        assert!(epoch_ns("localtime", now).unwrap().abs_diff(now as u64) <= 14 * 3_600_000_000_000);
    }
}
