"""What is computed for each vertex and each pixel by `scene_renderer`, in OpenGL's GLSL 3.30."""

from __future__ import annotations

LUMA = (0.299, 0.587, 0.114)
"""How bright red, green and blue are to the eye (ITU-R BT.601)."""
MAX_BODIES = 56
"""With the camera's own this many matrices fit in what every OpenGL 3.3 has (1024 numbers)."""

SCENE_VERTEX = f"""#version 330 core
layout(location = 0) in vec3 p_BV;
layout(location = 1) in vec3 normal_B;
layout(location = 2) in vec3 vertex_colour;
layout(location = 3) in int body;
layout(location = 4) in int vertex_label;
uniform mat4 X_WB[{MAX_BODIES}];
uniform mat4 projection;
out vec3 normal_W;
flat out vec3 colour;
flat out int surface_label;
out float depth;
void main() {{
  mat4 X = X_WB[body];
  normal_W = mat3(X) * normal_B;
  colour = vertex_colour;
  surface_label = vertex_label;
  gl_Position = projection * (X * vec4(p_BV, 1.0));
  depth = gl_Position.w;
}}
"""

SCENE_FRAGMENT = f"""#version 330 core
in vec3 normal_W;
flat in vec3 colour;
flat in int surface_label;
in float depth;
uniform vec3 to_light[3];
uniform vec3 light[3];
layout(location = 0) out vec4 shaded;
layout(location = 1) out float depth_m;
layout(location = 2) out int label;
void main() {{
  vec3 normal = normalize(normal_W);
  vec3 diffuse = max(0.0, dot(normal, to_light[0])) * light[0]
               + max(0.0, dot(normal, to_light[1])) * light[1]
               + max(0.0, dot(normal, to_light[2])) * light[2];
  vec3 rgb = min(diffuse * colour, 1.0);
  // The last channel is the brightness, which smoothing the edges asks for again and again.
  shaded = vec4(rgb, dot(rgb, vec3{LUMA}));
  depth_m = depth;
  label = surface_label;
}}
"""

WHOLE_VIEW_VERTEX = """#version 330 core
void main() {
  // One triangle that covers the view.
  gl_Position = vec4(gl_VertexID == 2 ? 3.0 : -1.0, gl_VertexID == 1 ? 3.0 : -1.0, 0.0, 1.0);
}
"""

# Fast approximate anti-aliasing after Lottes (FXAA, NVIDIA white paper, 2009), with the thresholds
# of Drake's VTK engine: where brightness jumps, the edge is followed to both its ends, and the
# pixel takes from across the edge as much as the edge's slope says. Where nothing jumps the pixel
# stays as it was, by `discard`: without it a driver for CPUs does all the work for every pixel.
SMOOTH_EDGES_FRAGMENT = """#version 330 core
uniform sampler2D picture;
uniform ivec4 view;  // The view's first column and row in the picture, and its last ones.
out vec4 smoothed;
const float RELATIVE_CONTRAST = 0.125;
const float LEAST_CONTRAST = 0.0625;
const float SPOT_CONTRAST = 0.25;
const float MOST_BLENDING = 0.75;
const int MAX_STEPS = 12;

vec4 at(ivec2 pixel) {
  return texelFetch(picture, clamp(pixel, view.xy, view.zw), 0);
}

void main() {
  ivec2 here = ivec2(gl_FragCoord.xy);
  vec4 middle = at(here);
  vec4 up = at(here + ivec2(0, -1)), down = at(here + ivec2(0, 1));
  vec4 left = at(here + ivec2(-1, 0)), right = at(here + ivec2(1, 0));
  float brightest = max(middle.a, max(max(up.a, down.a), max(left.a, right.a)));
  float darkest = min(middle.a, min(min(up.a, down.a), min(left.a, right.a)));
  float contrast = brightest - darkest;
  if (contrast < max(LEAST_CONTRAST, brightest * RELATIVE_CONTRAST)) discard;

  vec4 up_left = at(here + ivec2(-1, -1)), up_right = at(here + ivec2(1, -1));
  vec4 down_left = at(here + ivec2(-1, 1)), down_right = at(here + ivec2(1, 1));
  vec4 around = (middle + up + down + left + right
                 + up_left + up_right + down_left + down_right) / 9.0;
  float spot = abs((up.a + down.a + left.a + right.a) / 4.0 - middle.a) / contrast;
  float blending = min(MOST_BLENDING, max(0.0, spot - SPOT_CONTRAST) / (1.0 - SPOT_CONTRAST));

  float change_across_columns = abs(up_left.a - 2.0 * up.a + up_right.a)
                              + 2.0 * abs(left.a - 2.0 * middle.a + right.a)
                              + abs(down_left.a - 2.0 * down.a + down_right.a);
  float change_across_rows = abs(up_left.a - 2.0 * left.a + down_left.a)
                           + 2.0 * abs(up.a - 2.0 * middle.a + down.a)
                           + abs(up_right.a - 2.0 * right.a + down_right.a);
  bool lies_along_row = change_across_rows >= change_across_columns;
  vec4 before = lies_along_row ? up : left, after = lies_along_row ? down : right;
  bool is_before = abs(before.a - middle.a) >= abs(after.a - middle.a);
  vec4 other = is_before ? before : after;
  ivec2 across = (lies_along_row ? ivec2(0, 1) : ivec2(1, 0)) * (is_before ? -1 : 1);
  ivec2 along = lies_along_row ? ivec2(1, 0) : ivec2(0, 1);
  float edge = (middle.a + other.a) / 2.0;
  float jump = abs(other.a - middle.a) / 4.0;

  bool ended_back = false, ended_ahead = false;
  float value_back = 0.0, value_ahead = 0.0;
  int steps_back = 0, steps_ahead = 0;
  for (int i = 0; i < MAX_STEPS && !(ended_back && ended_ahead); ++i) {
    if (!ended_back) {
      ivec2 place = here - ++steps_back * along;
      value_back = (at(place).a + at(place + across).a) / 2.0 - edge;
      ended_back = abs(value_back) >= jump;
    }
    if (!ended_ahead) {
      ivec2 place = here + ++steps_ahead * along;
      value_ahead = (at(place).a + at(place + across).a) / 2.0 - edge;
      ended_ahead = abs(value_ahead) >= jump;
    }
  }
  bool back_is_nearer = steps_back < steps_ahead;
  float nearer_value = back_is_nearer ? value_back : value_ahead;
  float nearer_steps = float(min(steps_back, steps_ahead));
  // Beyond the nearer end the edge goes on at the other side of this pixel, or away from it.
  bool comes_nearer = (middle.a < edge) != (nearer_value < 0.0);
  float share = comes_nearer ? 0.5 - nearer_steps / float(steps_back + steps_ahead) : 0.0;
  smoothed = mix(mix(middle, other, share), around, blending);
}
"""
