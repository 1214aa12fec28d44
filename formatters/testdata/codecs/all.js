// TS013 wins over ChirpStack 3, and that over the first generation.
function Decoder() { return { by: 'Decoder' }; }
function Decode() { return { by: 'Decode' }; }
function decodeUplink() { return { data: { by: 'decodeUplink' } }; }
function Encoder() { return [3]; }
function Encode() { return [2]; }
