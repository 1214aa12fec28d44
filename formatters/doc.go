// Package formatters runs payload formatters: it decodes uplinks and encodes downlinks with what an application or a device is configured to use.
//
// CayenneLPP runs in the process. FORMATTER_REPOSITORY names a script of a device repository (package repository). Scripts (JavaScript, Lua) come from strangers: they can loop, eat memory or exhaust the stack, and no interpreter
// can be stopped everywhere. They run in workers: the same binary started anew, one call at a time, under limits of memory, stack, files and processor time.
// A worker that does not answer in time is killed and replaced. Other calls don't notice:
//
//   - a call takes one of a fixed number of slots, and formatters that wait take turns;
//   - formatters that are new, slow or were stopped before share all slots but one;
//   - a formatter that has to be stopped again and again is parked: its calls are refused for a time that doubles.
//
// The limit of time is processor time, so a script does not fail because the machine is busy. There is a generous limit of wall time besides.
//
// A worker has no environment, reads requests from its standard input and writes answers to its standard output (protocol.go). A script is sent to a
// worker once and kept there, compiled. The local time zone of scripts is UTC.
package formatters
