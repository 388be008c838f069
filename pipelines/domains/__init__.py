"""The domains: simulators behind one interface, found as plugins (entry point `vintix.domains`)."""
