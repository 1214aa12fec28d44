package rest

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"lorikeet/gateways/rest/devicefile"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const (
	importBatch   = 200         // devices that are written in one step
	importWorkers = 16          // devices that are read or restored at once
	importStep    = time.Minute // to receive and write one batch

	// movedFCntDown is how much further the downlink counters of a sealed export begin, since the server that it comes from may have gone on for a
	// while. A device takes gaps up to 16,384 (LoRaWAN 1.0.3 §4.3.1.5).
	movedFCntDown = 64
)

// What becomes of a device that is registered already.
const (
	conflictFail   = "fail"
	conflictSkip   = "skip"
	conflictUpdate = "update"
)

type importStatus string

const (
	importCreated importStatus = "created"
	importUpdated importStatus = "updated"
	importSkipped importStatus = "skipped"
	importFailed  importStatus = "failed"
)

// importResult is the outcome of one row.
type importResult struct {
	Row       int          `json:"row"`
	DeviceID  string       `json:"device_id,omitempty"`
	Status    importStatus `json:"status"`
	Error     string       `json:"error,omitempty"`
	ErrorName string       `json:"error_name,omitempty"`
	Warnings  []string     `json:"warnings,omitempty"`
	DryRun    bool         `json:"dry_run,omitempty"`
}

// importRow is a device on its way in.
type importRow struct {
	result importResult
	req    request[v3.EndDevice]
	state  v3.Transfer
	id     messages.DeviceID
	known  bool // it is registered already
	err    error
}

func (r *importRow) open() bool { return r.err == nil && r.result.Status == "" }

// importer is one import.
type importer struct {
	c          *call
	fleet      Fleet
	onConflict string
	dryRun     bool
	step       uint32 // of FCntDown
	seen       map[string]struct{}
}

// importDevices reads a file of devices and answers with one line for each, in their order. Results are kept in a file of their own until the devices are
// all read: many clients read nothing before they have sent everything.
func (s *Server) importDevices(c *call) error {
	im, err := c.importer()
	if err != nil {
		return err
	}
	control := http.NewResponseController(c.Response())
	extend := func() {
		_ = control.SetReadDeadline(time.Now().Add(importStep)) // without support the server's own limits stay
		_ = control.SetWriteDeadline(time.Now().Add(2 * importStep))
	}
	extend()
	file, err := c.importFile()
	if err != nil {
		return err
	}
	if file.Format() == devicefile.Sealed {
		im.step = movedFCntDown
	}
	results, err := newSpool()
	if err != nil {
		return err
	}
	defer results.close()
	for more := true; more; {
		extend()
		var rows []*importRow
		if rows, more, err = im.read(file); err != nil {
			return err
		}
		if err := im.write(rows); err != nil {
			return err
		}
		for _, r := range rows {
			if err := results.add(r.outcome(im.dryRun)); err != nil {
				return err
			}
		}
	}
	c.Response().Header().Set("X-Total-Count", strconv.Itoa(results.lines))
	return results.send(newDownload(c, "application/x-ndjson", false))
}

func (c *call) importer() (im *importer, err error) {
	im = &importer{c: c, onConflict: c.QueryParam("on_conflict"), seen: map[string]struct{}{}}
	if im.fleet, err = c.fleet(); err != nil {
		return nil, err
	}
	switch im.onConflict {
	case "":
		im.onConflict = conflictFail
	case conflictFail, conflictSkip, conflictUpdate:
	default:
		return nil, messages.Invalid("invalid_on_conflict", "on_conflict=%s: use fail, skip or update", shorten(im.onConflict))
	}
	if text := c.QueryParam("dry_run"); text != "" {
		if im.dryRun, err = strconv.ParseBool(text); err != nil {
			return nil, messages.Invalid("invalid_dry_run", "dry_run=%s: use true or false", shorten(text))
		}
	}
	return im, nil
}

// importFile opens the body.
func (c *call) importFile() (*devicefile.Reader, error) {
	o := devicefile.Options{
		Format: devicefile.Format(c.QueryParam("format")), Passphrase: []byte(c.Request().Header.Get(passphraseHeader)),
		FrequencyPlanID: c.QueryParam("frequency_plan_id"), LoRaWANVersion: c.QueryParam("lorawan_version"), LoRaWANPHYVersion: c.QueryParam("lorawan_phy_version"),
	}
	switch o.Format {
	case "", devicefile.JSON, devicefile.CSV, devicefile.ChirpStack, devicefile.Sealed:
	default:
		return nil, messages.Invalid("invalid_format", "format=%s: use %s, %s, %s or %s, or leave it out", shorten(string(o.Format)),
			devicefile.JSON, devicefile.CSV, devicefile.ChirpStack, devicefile.Sealed)
	}
	var body io.Reader = c.Request().Body
	switch encoding := strings.ToLower(c.Request().Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, messages.Invalid("content_encoding", "the body is not gzip, as its Content-Encoding says")
		}
		body = z
	default:
		return nil, messages.Invalid("content_encoding", "the body is encoded as %q: use gzip or none", shorten(encoding))
	}
	file, err := devicefile.NewReader(body, o)
	return file, readProblem(err)
}

// readProblem makes a refusal of what is wrong with the connection that a file comes through.
func readProblem(err error) error {
	var ours *messages.Error
	if err == nil || errors.As(err, &ours) {
		return err
	}
	return messages.Invalid("read_body", "the file did not arrive whole; import it again with on_conflict=skip or update to go on")
}

// read gives the next rows; more is false at the end of the file.
func (im *importer) read(file *devicefile.Reader) (rows []*importRow, more bool, err error) {
	for len(rows) < importBatch {
		row, err := file.Next()
		if errors.Is(err, io.EOF) {
			return rows, false, nil
		}
		if err != nil {
			return nil, false, readProblem(err)
		}
		rows = append(rows, im.parse(row))
	}
	return rows, true, im.c.ctx().Err()
}

// parse makes of a device in the file what is to be written.
func (im *importer) parse(row devicefile.Row) *importRow {
	r := &importRow{result: importResult{Row: row.Number, DeviceID: row.DeviceID, Warnings: row.Warnings}, err: row.Err}
	if r.err != nil {
		return r
	}
	if r.req, _, r.err = parseRequest[v3.EndDevice](append(append([]byte(`{"end_device":`), row.Device...), '}'), "end_device", im.c.server.cfg.Input); r.err != nil {
		return r
	}
	r.req.value.IDs.ApplicationIDs.ApplicationID = im.c.app() // the path wins
	r.id = r.req.value.DeviceID()
	if r.err = messages.ValidateID(r.id.DeviceID); r.err != nil {
		return r
	}
	if _, twice := im.seen[r.id.DeviceID]; twice {
		r.err = messages.Errorf(messages.CodeConflict, "id_taken", "there is an end device %q in the file already", r.id.DeviceID)
		return r
	}
	im.seen[r.id.DeviceID] = struct{}{}
	if r.err = im.c.mayWrite(r.req); r.err != nil {
		return r
	}
	ids := r.req.value.IDs
	if r.req, r.err = im.c.server.unwrapKeys(im.c, r.req); r.err != nil {
		return r
	}
	r.req.value.IDs = ids
	if err := json.Unmarshal(row.Device, &r.state); err != nil {
		r.err = messages.Invalid("decode_body", "mac_state: %s", plain(err))
		return r
	}
	r.state.EndDevice = r.req.value
	r.err = r.settleState()
	return r
}

// settleState leaves out a session that has nothing but counters, as a table has for devices that never joined.
func (r *importRow) settleState() error {
	for _, ses := range []**v3.Session{&r.state.Session, &r.state.PendingSession} {
		s := *ses
		if s == nil {
			continue
		}
		if s.DevAddr == nil && s.Keys.FNwkSIntKey == nil && s.Keys.AppSKey == nil {
			*ses = nil
		} else if err := checkSession(s); err != nil {
			return err
		}
	}
	return nil
}

func (r *importRow) outcome(dryRun bool) importResult {
	out := r.result
	out.DryRun = dryRun
	if r.err == nil {
		return out
	}
	details := v3.DetailsOf(namespace, r.err)
	out.Status, out.Error, out.ErrorName = importFailed, details.MessageFormat, details.Name
	return out
}

// write brings the rows into the registry and to their actors. Its error is that nothing more can be written.
func (im *importer) write(rows []*importRow) error {
	ctx, cancel := im.c.steadfast()
	defer cancel()
	var ids []messages.DeviceID
	for _, r := range rows {
		if r.open() {
			ids = append(ids, r.id)
		}
	}
	defer im.c.server.locks.lockAll(im.c.app(), ids)()
	im.parallel(rows, func(r *importRow) { r.err = im.look(ctx, r) })
	if im.dryRun {
		for _, r := range rows {
			if r.open() {
				r.err = im.rehearse(ctx, r)
			}
		}
		return nil
	}
	im.create(ctx, rows)
	im.parallel(rows, func(r *importRow) { r.err = im.update(ctx, r) })
	for _, r := range rows {
		if code := messages.CodeOf(r.err); r.err != nil && (code == messages.CodeInternal || code == messages.CodeUnavailable) {
			im.c.server.log.WarnContext(ctx, "device is not imported", "application_id", im.c.app(), "device_id", r.id.DeviceID, "err", r.err)
		}
	}
	return nil
}

// parallel calls do for every row that is not settled.
func (im *importer) parallel(rows []*importRow, do func(*importRow)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, importWorkers)
	for _, r := range rows {
		if !r.open() {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(r)
		})
	}
	wg.Wait()
}

// look finds out whether the device is there. A session record that is left of a former device of this id is dropped: the new one must not inherit it.
func (im *importer) look(ctx context.Context, r *importRow) error {
	_, err := im.c.server.cfg.Registry.Device(ctx, r.id)
	if err == nil {
		r.known = true
		switch im.onConflict {
		case conflictSkip:
			r.result.Status = importSkipped
		case conflictFail:
			return messages.Errorf(messages.CodeConflict, "id_taken", "there is an end device %q already: choose another id, or import with on_conflict=skip or update", r.id.DeviceID)
		}
		return nil
	}
	if messages.CodeOf(err) != messages.CodeNotFound || im.dryRun {
		return ignoreNotFound(err)
	}
	if _, found, err := im.fleet.StoredState(ctx, r.id); err != nil || !found {
		return err
	}
	return im.c.server.cfg.Devices.DeleteDevice(ctx, r.id)
}

func ignoreNotFound(err error) error {
	if messages.CodeOf(err) == messages.CodeNotFound {
		return nil
	}
	return err
}

// rehearse says what would become of a row.
func (im *importer) rehearse(ctx context.Context, r *importRow) error {
	device, status := r.req.value, importCreated
	if r.known {
		stored, err := im.c.server.cfg.Registry.Device(ctx, r.id)
		if err != nil {
			return err
		}
		if err := importChange(r.req)(&stored); err != nil {
			return err
		}
		device, status = stored, importUpdated
	}
	if err := im.fleet.CheckDevice(device); err != nil {
		return err
	}
	if ids := device.IDs; ids.JoinEUI != nil && ids.DevEUI != nil {
		if other, taken := im.fleet.DeviceByEUI(*ids.JoinEUI, *ids.DevEUI); taken && other != r.id {
			return messages.Errorf(messages.CodeConflict, "end_device_euis_taken", "an end device with JoinEUI %s and DevEUI %s is registered already", ids.JoinEUI, ids.DevEUI)
		}
	}
	r.result.Status = status
	return nil
}

// create makes the devices that are new, all at once.
func (im *importer) create(ctx context.Context, rows []*importRow) {
	var fresh []*importRow
	var devices []v3.EndDevice
	for _, r := range rows {
		if r.open() && !r.known {
			fresh, devices = append(fresh, r), append(devices, r.req.value)
		}
	}
	if len(fresh) == 0 {
		return
	}
	for i, err := range im.fleet.CreateDevices(ctx, im.c.app(), devices) {
		fresh[i].err = err
	}
	im.parallel(fresh, func(r *importRow) {
		if r.err = im.restore(ctx, r); r.err != nil {
			im.c.server.undoCreate(r.id) // so that the row can be imported again
			return
		}
		r.result.Status = importCreated
	})
}

func (im *importer) restore(ctx context.Context, r *importRow) error {
	if !r.state.HasState() {
		return nil
	}
	return im.fleet.RestoreDevice(ctx, r.id, r.state, im.step)
}

// update changes a device that is there.
func (im *importer) update(ctx context.Context, r *importRow) error {
	if _, err := im.c.server.cfg.Registry.UpdateDevice(ctx, r.id, importChange(r.req)); err != nil {
		return err
	}
	if err := im.restore(ctx, r); err != nil {
		return err
	}
	r.result.Status = importUpdated
	return nil
}

// importChange merges the fields that the file has.
func importChange(req request[v3.EndDevice]) func(*v3.EndDevice) error {
	change := req.change()
	return func(d *v3.EndDevice) error {
		app := d.IDs.ApplicationIDs
		err := change(d)
		d.IDs.ApplicationIDs = app
		return err
	}
}
