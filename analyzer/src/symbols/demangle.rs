//! Readable names. A mangled name can be built to unfold into gigabytes, so depth and length are capped.

use std::fmt::{self, Write};

/// Longest readable name; beyond it the mangled one is kept.
const LONGEST: usize = 4000;
/// Deepest nesting that is followed.
const DEEPEST: u32 = 96;

/// A string that refuses to grow beyond its bound.
#[derive(Default)]
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.0.len() + part.len() > LONGEST {
            return Err(fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}

/// The readable form of a Rust or C++ name; any other name as it is.
///
/// ```
/// assert_eq!(heaptape::symbols::demangle("_ZN3foo3barEi"), "foo::bar(int)");
/// assert_eq!(heaptape::symbols::demangle("malloc"), "malloc");
/// ```
pub fn demangle(name: &str) -> String {
    // Both languages use `_ZN`; Rust's old scheme is told by its hash, which its demangler checks.
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        let mut text = Bounded::default();
        if write!(text, "{rust:#}").is_ok() {
            return text.0;
        }
        return name.to_owned();
    }
    if name.starts_with("_Z") || name.starts_with("__Z") || name.starts_with("_GLOBAL_") {
        let parse = cpp_demangle::ParseOptions::default().recursion_limit(DEEPEST);
        if let Ok(symbol) = cpp_demangle::Symbol::new_with_options(name, &parse) {
            let options = cpp_demangle::DemangleOptions::new()
                .no_return_type()
                .recursion_limit(DEEPEST);
            let mut text = Bounded::default();
            if symbol
                .structured_demangle(&mut cpp_demangle_writer(&mut text), &options)
                .is_ok()
            {
                return text.0;
            }
        }
    }
    name.to_owned()
}

/// The demangler writes to anything that `fmt::Write` writes to.
fn cpp_demangle_writer(text: &mut Bounded) -> &mut Bounded {
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rust_and_cpp_become_readable() {
        for (mangled, readable) in [
            (
                "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE",
                "core::fmt::Formatter::pad",
            ),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            (
                "_ZNSt6vectorIiSaIiEE9push_backEOi",
                "std::vector<int, std::allocator<int> >::push_back(int&&)",
            ),
            ("_Znwm", "operator new(unsigned long)"),
            ("plain_c", "plain_c"),
            ("_Z", "_Z"),
        ] {
            assert_eq!(demangle(mangled), readable);
        }
    }

    #[test]
    fn a_name_that_unfolds_without_end_stays_mangled() {
        // Each S_ repeats the doubled type before it.
        let mut bomb = String::from("_Z3fooSt4pairIiiE");
        for n in 0..30 {
            let back = if n == 0 {
                "S_".to_owned()
            } else {
                format!("S{}_", char::from_digit(n - 1, 36).unwrap().to_ascii_uppercase())
            };
            bomb.push_str(&format!("St4pairI{back}{back}E"));
        }
        assert!(demangle(&bomb).len() <= LONGEST.max(bomb.len()));
        let deep = format!("_Z3foo{}i", "P".repeat(100_000));
        assert_eq!(demangle(&deep), deep);
    }
}
