package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// readStates reads a state file: the states of devices by device id. A file that does not exist holds none.
func readStates(name string) (map[string]State, error) {
	states := map[string]State{}
	if name == "" {
		return states, nil
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return states, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state file: %w", err)
	}
	if err := json.Unmarshal(b, &states); err != nil {
		return nil, fmt.Errorf("state file %s: %w; delete it only together with the devices on the server", name, err)
	}
	return states, nil
}

// writeStates replaces the state file as a whole.
func writeStates(name string, states map[string]State) error {
	if name == "" {
		return nil
	}
	b, err := json.Marshal(states)
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".simulator-*")
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	return nil
}
