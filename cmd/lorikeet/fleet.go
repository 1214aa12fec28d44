package main

import (
	"lorikeet/actors"
	"lorikeet/persistence/registry"
)

// fleet is what REST asks of registry and actors to move many devices.
type fleet struct {
	*registry.Registry
	devices
}

// devices keeps the methods of actors that the registry has too apart.
type devices struct{ *actors.Devices }
