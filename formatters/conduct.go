package formatters

import (
	"time"

	"lorikeet/messages"
)

const (
	strikesToPark = 3 // times that something had to be stopped, until it is parked
	parkFirst     = 5 * time.Second
	parkLongest   = 10 * time.Minute

	// Calls that end by themselves and take back one strike. A script is parked for all only if it has to be stopped in more than one of five calls or so:
	// bytes of one device that make a script loop are not the fault of the devices that share it. That device is parked alone.
	scriptForgives = 4
	deviceForgives = 50

	maxOffenders = 256 // devices of a script that are watched
)

// conduct is how the calls of a script, or of one device's with a script, have gone.
type conduct struct {
	strikes     int
	ended       int // calls that ended by themselves since the last strike came or went
	parkedUntil time.Time
	lastStop    error // why it was stopped last
}

func (c *conduct) parked(now time.Time) bool { return now.Before(c.parkedUntil) }

// end is for a call that ended by itself.
func (c *conduct) end(forgives int) {
	if c.strikes == 0 {
		return
	}
	if c.ended++; c.ended >= forgives {
		c.strikes, c.ended = c.strikes-1, 0
	}
}

// stop is for a call that had to be stopped. It says whether that is once too often.
func (c *conduct) stop(now time.Time, why error) (parked bool) {
	c.strikes, c.ended, c.lastStop = c.strikes+1, 0, why
	if c.strikes < strikesToPark {
		return false
	}
	c.parkedUntil = now.Add(min(parkFirst<<min(c.strikes-strikesToPark, 20), parkLongest))
	return true
}

// refusal of a call while it is parked; whose is "" or " for this device".
func (c *conduct) refusal(whose string) error {
	return messages.Errorf(messages.CodePrecondition, "formatter_parked", "the script is not run%s before %s, because it had to be stopped %d times (%w): correct it",
		whose, c.parkedUntil.UTC().Format(time.RFC3339), c.strikes, c.lastStop)
}
