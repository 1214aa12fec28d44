// Package actors holds the shells that carry the pure cores: they receive messages, commit what the core decided and carry out its effects.
// What a shell needs of others stands in ports.go.
package actors
