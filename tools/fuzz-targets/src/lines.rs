//! The lines of a history, which come from files.

use tandem_history::line::{self, Line};

/// A line of a history: what is read is written and read again as the same.
pub fn history(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match line::read(text) {
        Ok(Line::Whole(operation)) => {
            let again = line::read(&line::write_whole(&operation));
            assert_eq!(again, Ok(Line::Whole(operation)));
        }
        Ok(Line::Begin { .. } | Line::End { .. }) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
