package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	v3 "lorikeet/messages/v3"
)

// deviceCommand works on the devices of an application, over the REST API of a server.
type deviceCommand struct {
	List   deviceListCommand   `cmd:"" help:"List the devices."`
	Get    deviceGetCommand    `cmd:"" help:"Show a device with its state, as JSON."`
	Import deviceImportCommand `cmd:"" help:"Create or update devices from a file: The Things Stack's JSON or CSV, ChirpStack v4's JSON, or an export of Lorikeet."`
	Export deviceExportCommand `cmd:"" help:"Write all devices, complete with keys, counters and queue, sealed under a passphrase."`
	Delete deviceDeleteCommand `cmd:"" help:"Delete devices."`
}

// deviceFlags say which server and application. Keys and passphrases come from files or the environment: arguments can be seen by other users.
type deviceFlags struct {
	Server      string `default:"http://127.0.0.1:1885" env:"LORIKEET_SERVER" placeholder:"URL" help:"REST API of the server."`
	Application string `required:"" short:"a" env:"LORIKEET_APPLICATION" placeholder:"ID" help:"Application of the devices."`
	KeyFile     string `name:"key-file" type:"path" placeholder:"FILE" help:"File with the API key; without it the environment variable LORIKEET_API_KEY has the key."`
}

func (f *deviceFlags) key() (string, error) {
	key, err := secretFrom(f.KeyFile, "LORIKEET_API_KEY")
	if err == nil && key == "" {
		err = errors.New("no API key: set the environment variable LORIKEET_API_KEY, or name a file with --key-file")
	}
	return key, err
}

// secretFrom reads a secret from a file, or without one from the environment.
func secretFrom(path, variable string) (string, error) {
	if path == "" {
		return os.Getenv(variable), nil
	}
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// do makes one request; path is below the devices of the application. An answer that is no success becomes an error.
func (f *deviceFlags) do(ctx context.Context, method, path string, query url.Values, header http.Header, body io.Reader) (*http.Response, error) {
	key, err := f.key()
	if err != nil {
		return nil, err
	}
	address := strings.TrimRight(f.Server, "/") + "/api/v3/applications/" + url.PathEscape(f.Application) + "/devices" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refusal(resp)
}

// refusal reads the words of an error answer.
func refusal(resp *http.Response) error {
	var e struct {
		Details []v3.ErrorDetails `json:"details"`
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && json.Unmarshal(raw, &e) == nil && len(e.Details) > 0 {
		return fmt.Errorf("%s (%s)", e.Details[0].MessageFormat, e.Details[0].Name)
	}
	return fmt.Errorf("the server answers HTTP %s", resp.Status)
}

type deviceListCommand struct {
	deviceFlags
	JSON bool `name:"json" help:"One line of JSON for each device."`
}

// Run prints the devices, sorted by id.
func (c *deviceListCommand) Run(ctx context.Context) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for page, seen := 1, 0; ; page++ {
		query := url.Values{"limit": {"1000"}, "page": {strconv.Itoa(page)}, "field_mask": {"name,frequency_plan_id,lorawan_version"}}
		resp, err := c.do(ctx, http.MethodGet, "", query, nil, nil)
		if err != nil {
			return err
		}
		var answer struct {
			Devices []json.RawMessage `json:"end_devices"`
		}
		err = json.NewDecoder(resp.Body).Decode(&answer)
		_ = resp.Body.Close()
		if err != nil {
			return fmt.Errorf("answer of the server: %w", err)
		}
		for _, raw := range answer.Devices {
			if err := c.print(table, raw); err != nil {
				return err
			}
		}
		seen += len(answer.Devices)
		if total, _ := strconv.Atoi(resp.Header.Get("X-Total-Count")); len(answer.Devices) == 0 || seen >= total {
			return table.Flush()
		}
	}
}

func (c *deviceListCommand) print(table io.Writer, raw json.RawMessage) error {
	if c.JSON {
		_, err := fmt.Println(string(raw))
		return err
	}
	var d v3.EndDevice
	if err := json.Unmarshal(raw, &d); err != nil {
		return fmt.Errorf("answer of the server: %w", err)
	}
	eui := "-"
	if d.IDs.DevEUI != nil {
		eui = d.IDs.DevEUI.String()
	}
	_, err := fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", d.IDs.DeviceID, eui, d.LoRaWANVersion, d.FrequencyPlanID, d.Name)
	return err
}

type deviceGetCommand struct {
	deviceFlags
	Device string `arg:"" help:"Device id."`
	Keys   bool   `help:"Show the keys too, if the API key may read them."`
}

// Run prints the device. Keys are left out unless they are asked for.
func (c *deviceGetCommand) Run(ctx context.Context) error {
	resp, err := c.do(ctx, http.MethodGet, "/"+url.PathEscape(c.Device), url.Values{"field_mask": {"*"}}, nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	dec.UseNumber()
	var device map[string]any
	if err := dec.Decode(&device); err != nil {
		return fmt.Errorf("answer of the server: %w", err)
	}
	if !c.Keys {
		hideSecrets(device)
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(device)
}

// hideSecrets replaces keys and codes in a device.
func hideSecrets(fields map[string]any) {
	for name, value := range fields {
		switch inner := value.(type) {
		case map[string]any:
			if name == "claim_authentication_code" {
				fields[name] = "***"
				continue
			}
			hideSecrets(inner)
		case string:
			if name == "key" || name == "encrypted_key" {
				fields[name] = "***"
			}
		}
	}
}

type passphraseFlag struct {
	PassphraseFile string `name:"passphrase-file" type:"path" placeholder:"FILE" help:"File with the passphrase of a sealed export; without it the environment variable LORIKEET_PASSPHRASE has it."`
}

func (f *passphraseFlag) header() (http.Header, error) {
	header := http.Header{}
	passphrase, err := secretFrom(f.PassphraseFile, "LORIKEET_PASSPHRASE")
	if passphrase != "" {
		header.Set("X-Lorikeet-Passphrase", passphrase)
	}
	return header, err
}

type deviceImportCommand struct {
	deviceFlags
	passphraseFlag
	File       string `arg:"" help:"File of devices; - for the standard input."`
	Format     string `enum:",the-things-stack,the-things-stack-csv,chirpstack,lorikeet" default:"" help:"the-things-stack, the-things-stack-csv, chirpstack or lorikeet; empty: found out by the file."`
	OnConflict string `name:"on-conflict" enum:"fail,skip,update" default:"fail" help:"What becomes of a device that is there already: fail, skip or update."`
	DryRun     bool   `name:"dry-run" help:"Only say what would happen."`
	Plan       string `name:"frequency-plan-id" placeholder:"ID" help:"For devices of which the file does not say it, e.g. EU_863_870_TTN."`
	Version    string `name:"lorawan-version" placeholder:"VERSION" help:"Likewise, e.g. MAC_V1_0_3."`
	PHYVersion string `name:"lorawan-phy-version" placeholder:"VERSION" help:"Likewise, e.g. PHY_V1_0_3_REV_A."`
	JSON       bool   `name:"json" help:"Print the result of every device as a line of JSON; else only of those that failed."`
}

// Run sends the file and prints what became of its devices. It fails if a device failed.
func (c *deviceImportCommand) Run(ctx context.Context) error {
	file := os.Stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		file = f
	}
	header, err := c.header()
	if err != nil {
		return err
	}
	header.Set("Content-Type", "application/octet-stream")
	query := url.Values{"on_conflict": {c.OnConflict}, "dry_run": {strconv.FormatBool(c.DryRun)}}
	for name, value := range map[string]string{"format": c.Format, "frequency_plan_id": c.Plan, "lorawan_version": c.Version, "lorawan_phy_version": c.PHYVersion} {
		if value != "" {
			query.Set(name, value)
		}
	}
	resp, err := c.do(ctx, http.MethodPost, "/import", query, header, file)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	counts, err := c.report(resp.Body, os.Stdout)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d created, %d updated, %d skipped, %d failed\n", counts["created"], counts["updated"], counts["skipped"], counts["failed"])
	if n := counts["failed"]; n > 0 {
		return fmt.Errorf("%d devices were not imported", n)
	}
	return nil
}

func (c *deviceImportCommand) report(results io.Reader, w io.Writer) (map[string]int, error) {
	counts := map[string]int{}
	lines := bufio.NewScanner(results)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var r struct {
			Row      int      `json:"row"`
			DeviceID string   `json:"device_id"`
			Status   string   `json:"status"`
			Error    string   `json:"error"`
			Warnings []string `json:"warnings"`
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return counts, fmt.Errorf("answer of the server: %w", err)
		}
		counts[r.Status]++
		switch {
		case c.JSON:
			fmt.Fprintln(w, lines.Text())
		case r.Error != "":
			fmt.Fprintf(w, "row %d %s: %s\n", r.Row, r.DeviceID, r.Error)
		}
		for _, warning := range r.Warnings {
			if !c.JSON {
				fmt.Fprintf(w, "row %d %s: note: %s\n", r.Row, r.DeviceID, warning)
			}
		}
	}
	return counts, lines.Err()
}

type deviceExportCommand struct {
	deviceFlags
	passphraseFlag
	Output string `short:"o" type:"path" placeholder:"FILE" help:"File to write, readable by you only; empty: the standard output."`
	Plain  bool   `help:"Not sealed: the file shows all keys."`
}

// Run writes the export. A file is there under its name only when it is whole.
func (c *deviceExportCommand) Run(ctx context.Context) error {
	header, err := c.header()
	if err != nil {
		return err
	}
	query := url.Values{}
	if c.Plain {
		query.Set("plain", "true")
	} else if len(header) == 0 {
		return errors.New("no passphrase: set the environment variable LORIKEET_PASSPHRASE, or name a file with --passphrase-file; --plain exports without one")
	}
	resp, err := c.do(ctx, http.MethodGet, "/export", query, header, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if c.Output == "" {
		return copyExport(os.Stdout, resp.Body)
	}
	part := c.Output + ".part"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(part) // if it was not renamed
	if err := errors.Join(copyExport(f, resp.Body), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(part, c.Output)
}

// copyExport stops at a line with an error, which is how a server ends an export that it can't finish.
func copyExport(w io.Writer, r io.Reader) error {
	in, out := bufio.NewReader(r), bufio.NewWriter(w)
	for {
		line, err := in.ReadBytes('\n')
		if bytes.HasPrefix(line, []byte(`{"error":`)) {
			return fmt.Errorf("the server could not finish the export: %s", bytes.TrimSpace(line))
		}
		if _, werr := out.Write(line); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			return out.Flush()
		}
		if err != nil {
			return fmt.Errorf("the export was cut off: %w", err)
		}
	}
}

type deviceDeleteCommand struct {
	deviceFlags
	Devices []string `arg:"" help:"Device ids."`
}

// Run deletes the devices one by one, and stops at the first that can't be deleted.
func (c *deviceDeleteCommand) Run(ctx context.Context) error {
	for _, id := range c.Devices {
		resp, err := c.do(ctx, http.MethodDelete, "/"+url.PathEscape(id), nil, nil, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		_ = resp.Body.Close()
	}
	return nil
}
