//! stub
mod listening;
