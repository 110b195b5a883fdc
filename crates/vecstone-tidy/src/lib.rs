//! Rules for the text of this repository, as tests: each failure names a file, a line and the rule.
//!
//! `rules` has every limit, and every exception that is left of the time before the rule. Exceptions only shrink: a rule
//! fails when an exception grows, and when it is no longer needed. The other modules only measure.
//!
//! | rule | measured in |
//! |---|---|
//! | width of code, of comments and of Markdown prose; no tabs, no trailing blanks, no `TODO` | `text` |
//! | words that were retired, words that are avoided | `words` |
//! | each link of a Markdown page leads to a file of the repository and to a heading of it | `links` |
//! | lengths of functions and files; each Rust file is a module | `shape` |
//! | imports of the library go downwards only | `layers` |
//! | each package that goes to a registry has licences, a page and all that is shown there | `packages` |

#[cfg(test)]
mod layers;
#[cfg(test)]
mod links;
#[cfg(test)]
mod packages;
#[cfg(test)]
mod repository;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod rust;
#[cfg(test)]
mod shape;
#[cfg(test)]
mod text;
#[cfg(test)]
mod words;
