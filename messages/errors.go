package messages

import (
	"errors"
	"fmt"
)

// Code is the class of a refusal that a user can cause or see; gateways/rest maps it to an HTTP status.
type Code int

const (
	CodeInternal     Code = iota // our fault; the detail stays in the log
	CodeInvalid                  // the request can never succeed as it is
	CodeNotFound                 // no such thing, or not in the caller's scope
	CodeConflict                 // exists already, or was changed by someone else
	CodePrecondition             // valid, but not in the present state
	CodeUnauthenticated
	CodeForbidden
	CodeExhausted   // a limit is reached; try later or with less
	CodeUnavailable // try again later
)

// Error is a refusal with a stable name (as The Things Stack names its errors: "device_not_found") and a sentence that says what to do next.
type Error struct {
	Code    Code
	Name    string
	Message string // with the words of Cause, if there is one
	Cause   error
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Cause }

// Is makes errors.Is(err, target) true for two Errors of one name.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Name == e.Name
}

// Errorf makes an Error. A %w verb sets its Cause too.
func Errorf(code Code, name, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Name: name, Message: err.Error(), Cause: errors.Unwrap(err)}
}

// Invalid is Errorf with CodeInvalid.
func Invalid(name, format string, args ...any) *Error {
	return Errorf(CodeInvalid, name, format, args...)
}

// NotFound is Errorf with CodeNotFound.
func NotFound(name, format string, args ...any) *Error {
	return Errorf(CodeNotFound, name, format, args...)
}

// CodeOf gives the class of err: CodeInternal unless an Error is in its chain.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// ErrPermanent in the chain of an integration's error means that a retry of the same event can't help.
var ErrPermanent = errors.New("permanent")

// Errors of the store.
var (
	ErrNotFound = &Error{Code: CodeNotFound, Name: "not_found", Message: "not found"}
	// ErrConflict: the record is not at the expected revision. For a session record it means that another activation owns the device.
	ErrConflict = &Error{Code: CodeConflict, Name: "conflict", Message: "changed by someone else; read it again"}
)

// ErrMoved is what a device actor answers when its device belongs to another node: nothing was done, ask there.
var ErrMoved = &Error{Code: CodeUnavailable, Name: "device_moved", Message: "the device moved to another node; try again"}
