package repository

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"reflect"
	"regexp"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"lorikeet/messages"
)

const (
	freshFor    = 5 * time.Second // a file that was looked at is believed for so long
	maxYAML     = 8 << 20         // bytes of a file; codecs with many examples are large
	maxRemember = 1 << 14         // choices of codecs
)

// Repository answers from a folder. Its methods may be called by many goroutines.
type Repository struct {
	fsys  fs.FS
	clock func() time.Time
	log   *slog.Logger

	mu      sync.Mutex
	files   map[reading]*file
	choices map[question]choice
}

// reading of a file as a type: what is a model for one may be asked for as a codec by another.
type reading struct {
	name string
	as   reflect.Type
}

// file that was read, or why it could not be.
type file struct {
	looked time.Time // at the folder
	stamp  stamp
	parsed any
	err    error
}

// stamp of a version of a file.
type stamp struct {
	modified time.Time
	size     int64
}

// New reads from fsys, whose root is the folder with vendor in it. Files that are broken are told to log.
func New(fsys fs.FS, clock func() time.Time, log *slog.Logger) *Repository {
	return &Repository{fsys: fsys, clock: clock, log: log, files: map[reading]*file{}, choices: map[question]choice{}}
}

// Open reads from a folder on the disk. It is an error if there is no index of vendors in it.
func Open(folder string, log *slog.Logger) (*Repository, error) {
	r := New(root(folder), time.Now, log)
	if _, err := r.Brands(); err != nil {
		return nil, fmt.Errorf("device repository %s: %w", folder, err)
	}
	return r, nil
}

// root is a folder whose symbolic links don't lead out of it. It is opened anew for each file, so it may be replaced by another one.
type root string

func (r root) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return os.OpenInRoot(string(r), name)
}

// identifiers of vendors, models, profiles and codecs are file names without a dot in front.
var identifier = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// inVendor gives the path of a file in the folder of a vendor. Both come from people or files and are checked.
func inVendor(vendor, name string) (string, error) {
	if !identifier.MatchString(vendor) {
		return "", messages.NotFound("brand_not_found", "brand %.64q not found: it is no identifier", vendor)
	}
	full := path.Join("vendor", vendor, name)
	if !fs.ValidPath(name) || !fs.ValidPath(full) || path.Dir(full) == "vendor" {
		return "", messages.Invalid("repository_file", "file name %.128q of vendor %s leads out of the vendor's folder", name, vendor)
	}
	return full, nil
}

// load gives what parse makes of a file, from memory if the file has not changed. A file that is missing is fs.ErrNotExist.
func load[T any](r *Repository, name string, limit int64, parse func([]byte) (T, error)) (T, error) {
	now, key := r.clock(), reading{name, reflect.TypeFor[T]()}
	r.mu.Lock()
	known := r.files[key]
	r.mu.Unlock()
	if known == nil || now.Sub(known.looked) >= freshFor {
		next := read(r.fsys, name, limit, known, func(text []byte) (any, error) { return parse(text) })
		next.looked = now
		if next.err != nil && !errors.Is(next.err, fs.ErrNotExist) && (known == nil || known.err == nil || known.err.Error() != next.err.Error()) {
			r.log.Warn("file of the device repository can't be used", "file", name, "err", next.err)
		}
		r.mu.Lock()
		r.files[key] = next
		r.mu.Unlock()
		known = next
	}
	parsed, _ := known.parsed.(T)
	return parsed, known.err
}

// read gives a new state of a file. What was parsed before is kept if the file is the same.
func read(fsys fs.FS, name string, limit int64, before *file, parse func([]byte) (any, error)) *file {
	f, err := fsys.Open(name)
	if err != nil {
		return &file{err: err}
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return &file{err: err}
	case !info.Mode().IsRegular():
		return &file{err: fmt.Errorf("%s is not a file", name)}
	case info.Size() > limit:
		return &file{err: fmt.Errorf("%s has %d bytes: use at most %d", name, info.Size(), limit)}
	}
	out := &file{stamp: stamp{info.ModTime(), info.Size()}}
	if before != nil && before.stamp == out.stamp {
		out.parsed, out.err = before.parsed, before.err
		return out
	}
	text, err := io.ReadAll(io.LimitReader(f, limit))
	if err == nil {
		out.parsed, err = parse(text)
	}
	if err != nil {
		out.err = fmt.Errorf("%s: %w", name, err)
	}
	return out
}

// document reads a YAML file. Members that are not known are passed over: the layout grows.
func document[T any](r *Repository, name string) (T, error) {
	return load(r, name, maxYAML, func(text []byte) (v T, err error) {
		err = yaml.Unmarshal(text, &v)
		return v, err
	})
}

// script reads the source of a codec.
func (r *Repository) script(name string) (string, error) {
	return load(r, name, messages.MaxFormatterSource, func(text []byte) (string, error) { return string(text), nil })
}
