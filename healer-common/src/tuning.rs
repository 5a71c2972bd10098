//! Values the loader writes into the kernel programs before they are loaded.
