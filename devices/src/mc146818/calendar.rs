//! The chip's calendar: ten bytes in one of four encodings, and the arithmetic of seconds and days.

/// Seconds of a day.
pub(super) const DAY: u64 = 24 * 60 * 60;
/// Four digits are all that the registers hold.
const YEARS: u64 = 10_000;
/// Days of 400 years, after which the Gregorian calendar repeats itself.
const DAYS_OF_400_YEARS: u64 = 146_097;

/// How the bytes are to be read: two bits of register B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoding {
    /// Binary numbers rather than two decimal digits.
    pub(super) binary: bool,
    /// Hours 0 to 23 rather than 1 to 12 and a bit for the afternoon.
    pub(super) hours24: bool,
}

/// Bit 7 of the hours in twelve-hour mode.
const AFTERNOON: u8 = 1 << 7;

impl Encoding {
    /// The number below 100 that `byte` stands for.
    pub(super) fn number(self, byte: u8) -> Option<u8> {
        let (tens, ones) = (byte >> 4, byte & 0xf);
        match self.binary {
            true => (byte < 100).then_some(byte),
            false => (tens <= 9 && ones <= 9).then_some(tens * 10 + ones),
        }
    }

    /// The byte for a number below 100.
    pub(super) fn byte(self, number: u8) -> u8 {
        if self.binary { number } else { ((number / 10) << 4) | (number % 10) }
    }

    /// The hour, 0 to 23, that `byte` stands for.
    pub(super) fn hour(self, byte: u8) -> Option<u8> {
        if self.hours24 {
            return self.number(byte).filter(|hour| *hour < 24);
        }
        let hour = self.number(byte & !AFTERNOON).filter(|hour| (1..=12).contains(hour))?;
        Some(hour % 12 + if byte & AFTERNOON != 0 { 12 } else { 0 })
    }

    /// The byte for an hour, 0 to 23.
    pub(super) fn hour_byte(self, hour: u8) -> u8 {
        if self.hours24 {
            return self.byte(hour);
        }
        let on_the_dial = (hour + 11) % 12 + 1;
        self.byte(on_the_dial) | if hour >= 12 { AFTERNOON } else { 0 }
    }
}

/// A second of the Gregorian calendar, in the years 0 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Days since the first of March of the year 0, so that a leap day is the last of its year.
    days: u64,
    /// Seconds of the day.
    pub(super) second: u64,
}

impl Moment {
    /// `seconds` after the start of 1970.
    pub(super) fn from_unix(seconds: u64) -> Moment {
        let start = Moment::new(1970, 1, 1, 0).expect("a date");
        start.after(seconds)
    }

    /// Nothing if there is no such day.
    pub(super) fn new(year: u16, month: u8, day: u8, second: u64) -> Option<Moment> {
        if u64::from(year) >= YEARS || !(1..=12).contains(&month) || day == 0 || second >= DAY {
            return None;
        }
        let moment = Moment { days: days_before(year.into(), month.into()) + u64::from(day) - 1, second };
        // A day beyond the end of its month comes out in another one.
        (moment.date() == (year, month, day)).then_some(moment)
    }

    /// Year, month 1 to 12, day 1 to 31.
    pub(super) fn date(self) -> (u16, u8, u8) {
        let (era, day) = (self.days / DAYS_OF_400_YEARS, self.days % DAYS_OF_400_YEARS);
        // The last day of a cycle of 4, 100 or 400 years exists only when the cycle ends in a leap day.
        let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Months of 31, 30, 31, 30, 31 days repeat from March on: 153 days in five of them.
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let (month, years_on) =
            if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
        // January and February of the year 0 stand at the end of the cycle.
        let year = (era * 400 + year_of_era + years_on) % YEARS;
        (year as u16, month as u8, day_of_month as u8)
    }

    /// 1 is Sunday, as the chip counts.
    #[cfg(test)]
    pub(super) fn weekday(self) -> u8 {
        // The first of March of the year 0 was a Wednesday.
        ((self.days + 3) % 7 + 1) as u8
    }

    pub(super) fn day_number(self) -> u64 {
        self.days
    }

    /// `seconds` later; the year after 9999 is 0.
    pub(super) fn after(self, seconds: u64) -> Moment {
        let total = self.second + seconds % DAY;
        Moment { days: self.days + seconds / DAY + total / DAY, second: total % DAY }
    }
}

/// Days from the first of March of the year 0 to the first of `month`; January and February of the year 0 follow the
/// year 9999.
fn days_before(year: u64, month: u64) -> u64 {
    let (year, month_from_march) = if month > 2 { (year, month - 3) } else { ((year + YEARS - 1) % YEARS, month + 9) };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month_from_march + 2) / 5
}

/// When an alarm goes off: each part a number, or nothing for "any".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alarm {
    pub(super) hour: Option<u8>,
    pub(super) minute: Option<u8>,
    pub(super) second: Option<u8>,
}

impl Alarm {
    /// Seconds from `now`, a second of the day, to the next match after it: 1 to [`DAY`].
    pub(super) fn wait(self, now: u64) -> u64 {
        // The parts of the second after `now`, which is the first that may match.
        let first = (now + 1) % DAY;
        let (hour, minute, second) = (first / 3600, first / 60 % 60, first % 60);
        // Each part is the first match from where it stands, and whether that lies beyond a turn of the part above.
        let next = |wanted: Option<u8>, from: u64| wanted.map_or(from, u64::from);
        let start = |wanted: Option<u8>| wanted.map_or(0, u64::from);

        let matched_second = next(self.second, second);
        // The seconds of this minute are over when the wanted one has passed; then the next minute is the first to try.
        let minute_from = minute + u64::from(matched_second < second);
        let (mut hour_from, mut at) = (hour, None);
        if minute_from < 60 && next(self.minute, minute_from) >= minute_from {
            let matched_minute = next(self.minute, minute_from);
            let in_minute = if matched_minute == minute { matched_second } else { start(self.second) };
            at = Some(matched_minute * 60 + in_minute);
        } else {
            hour_from += 1;
        }
        // Whatever hour follows, its first match is this far into it.
        let in_hour = start(self.minute) * 60 + start(self.second);
        let matched_hour = next(self.hour, hour_from % 24);
        let hours_on = (matched_hour + 48 - hour) % 24;
        let (hours_on, in_hour) = match at {
            Some(at) if hours_on == 0 => (0, at),
            None if hours_on == 0 => (24, in_hour),
            _ => (hours_on, in_hour),
        };
        (hour + hours_on) * 3600 + in_hour - first + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_day_of_four_hundred_years_follows_the_one_before() {
        let mut moment = Moment::new(1999, 12, 31, 0).unwrap();
        let (mut year, mut month, mut day) = (1999, 12, 31);
        let mut weekday = 6; // a Friday
        for _ in 0..DAYS_OF_400_YEARS {
            assert_eq!(moment.date(), (year, month, day));
            assert_eq!(moment.weekday(), weekday);
            assert_eq!(Moment::new(year, month, day, 0), Some(moment));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u8::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (year, month, day) = match () {
                () if day < length => (year, month, day + 1),
                () if month < 12 => (year, month + 1, 1),
                () => (year + 1, 1, 1),
            };
            weekday = weekday % 7 + 1;
            moment = moment.after(DAY);
        }
    }

    #[test]
    fn days_that_are_not_in_the_calendar_are_refused() {
        for (year, month, day) in
            [(2023, 2, 29), (1900, 2, 29), (2024, 2, 30), (2024, 4, 31), (2024, 13, 1), (2024, 1, 0)]
        {
            assert_eq!(Moment::new(year, month, day, 0), None, "{year}-{month}-{day}");
        }
        assert!(Moment::new(2000, 2, 29, 0).is_some());
    }

    #[test]
    fn the_years_zero_and_9999_are_inside() {
        for (year, month, day) in [(0, 1, 1), (0, 2, 29), (0, 3, 1), (9999, 12, 31)] {
            assert_eq!(Moment::new(year, month, day, 0).unwrap().date(), (year, month, day));
        }
        assert_eq!(Moment::new(9999, 12, 31, DAY - 1).unwrap().after(1).date(), (0, 1, 1));
    }

    #[test]
    fn unix_time_counts_from_1970() {
        assert_eq!(Moment::from_unix(0).date(), (1970, 1, 1));
        let moment = Moment::from_unix(951_782_400 + 3661);
        assert_eq!((moment.date(), moment.second), ((2000, 2, 29), 3661));
    }

    #[test]
    fn every_hour_is_read_as_it_was_written_in_each_encoding() {
        for binary in [false, true] {
            for hours24 in [false, true] {
                let encoding = Encoding { binary, hours24 };
                for hour in 0..24 {
                    assert_eq!(encoding.hour(encoding.hour_byte(hour)), Some(hour), "{encoding:?}");
                }
                for number in 0..100 {
                    assert_eq!(encoding.number(encoding.byte(number)), Some(number), "{encoding:?}");
                }
            }
        }
    }

    #[test]
    fn midnight_and_noon_are_both_twelve_on_the_dial() {
        let encoding = Encoding { binary: false, hours24: false };
        assert_eq!(encoding.hour_byte(0), 0x12);
        assert_eq!(encoding.hour_byte(12), 0x92);
        assert_eq!(encoding.hour(0x00), None);
    }

    #[test]
    fn an_alarm_waits_exactly_until_its_next_match() {
        let parts = |wanted: [u8; 3]| wanted.map(|part| Some(part).filter(|part| *part < 60));
        let any = 60;
        let alarms =
            [[any, any, any], [any, any, 0], [any, any, 59], [any, 0, any], [any, 59, 59], [0, any, any], [23, 59, 59]]
                .into_iter()
                .chain([[0, 0, 0], [12, any, 30], [5, 17, any], [7, 7, 7], [any, 30, 15]]);
        for wanted in alarms {
            let [hour, minute, second] = parts(wanted);
            let matches = |at: u64| {
                let part = |wanted: Option<u8>, is: u64| wanted.is_none_or(|wanted| u64::from(wanted) == is);
                part(hour, at / 3600 % 24) && part(minute, at / 60 % 60) && part(second, at % 60)
            };
            let mut next = (1..).find(|after| matches(DAY - 1 + after)).unwrap() + DAY - 1;
            // Backwards through the day, so that the next match is always known.
            for now in (0..DAY).rev() {
                if matches(now + 1) {
                    next = now + 1;
                }
                assert_eq!(Alarm { hour, minute, second }.wait(now), next - now, "{wanted:?} at {now}");
            }
        }
    }
}
