package simulator

import (
	"slices"
	"time"
)

// Spread tells how a figure is spread over devices.
type Spread struct {
	Devices int     `json:"devices"`
	Min     Seconds `json:"min_seconds"`
	Median  Seconds `json:"median_seconds"`
	P99     Seconds `json:"p99_seconds"`
	Max     Seconds `json:"max_seconds"`
}

func spreadOf(d []time.Duration) Spread {
	if len(d) == 0 {
		return Spread{}
	}
	d = slices.Sorted(slices.Values(d))
	rank := func(q float64) Seconds { return Seconds(d[min(int(q*float64(len(d))), len(d)-1)]) }
	return Spread{Devices: len(d), Min: rank(0), Median: rank(0.5), P99: rank(0.99), Max: rank(1)}
}

// MarkReport is what a Mark meant to the devices that had been accepted before.
type MarkReport struct {
	Name string `json:"name"`
	// Outage is by how much the longest time between two acceptances of a device, of those that end after the mark and begin before the next one,
	// exceeds the interval at which it sends.
	Outage Spread `json:"outage"`
	// Interrupted is the same of those devices whose outage is more than half a second.
	Interrupted Spread `json:"interrupted"`
	// First is the time from the mark to the first acceptance of each device. A device sends at its interval, whatever happens.
	First Spread `json:"first_accepted"`
	// Unserved counts devices without any acceptance between the mark and the next one, or the end.
	Unserved int `json:"unserved"`
}

// longestGap gives the longest time between two neighbours.
func longestGap(times []time.Duration) (longest time.Duration) {
	for i := 1; i < len(times); i++ {
		longest = max(longest, times[i]-times[i-1])
	}
	return longest
}

// interruptions leaves out what is no more than the jitter of windows and deliveries.
func interruptions(gaps []time.Duration) (out []time.Duration) {
	for _, gap := range gaps {
		if gap > 500*time.Millisecond {
			out = append(out, gap)
		}
	}
	return out
}

// outages measures what devices had to do without. The caller holds j.mu.
func (j *judge) outages(interval, end time.Duration) (whole, interrupted Spread, marks []MarkReport) {
	var times [][]time.Duration
	var gaps []time.Duration
	for _, d := range j.devices {
		t := slices.Sorted(slices.Values(d.accepted))
		times = append(times, t)
		if len(t) > 0 {
			gaps = append(gaps, max(longestGap(append(slices.Clone(t), end))-interval, 0))
		}
	}
	for i, m := range j.marks {
		next := end
		if i+1 < len(j.marks) {
			next = j.marks[i+1].at
		}
		marks = append(marks, markReport(m, times, next, end, interval))
	}
	return spreadOf(gaps), spreadOf(interruptions(gaps)), marks
}

// markReport measures one mark; next is when its time is over, end when the run is.
func markReport(m timedMark, times [][]time.Duration, next, end, interval time.Duration) MarkReport {
	out := MarkReport{Name: m.Name}
	var gaps, first []time.Duration
	for _, t := range times {
		i, _ := slices.BinarySearch(t, m.at)
		if i == 0 {
			continue // it may not have sent yet
		}
		if i == len(t) || t[i] > next {
			out.Unserved++
		}
		if i < len(t) {
			first = append(first, t[i]-m.at)
		}
		last := i
		for last < len(t) && t[last] <= next {
			last++
		}
		upTo := end // a gap that is open at the next mark began here and ends where it ends
		if last < len(t) {
			upTo = t[last]
		}
		gaps = append(gaps, max(longestGap(append(slices.Clone(t[i-1:last]), upTo))-interval, 0))
	}
	out.Outage, out.Interrupted, out.First = spreadOf(gaps), spreadOf(interruptions(gaps)), spreadOf(first)
	return out
}
